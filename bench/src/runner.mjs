import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { groups } from './groups/index.mjs';
import { BUSY, busyProcessors, describeCommit, describeMachine } from './machine.mjs';
import { loadPeer, versionsOf } from './peers/index.mjs';
import { addAbsent, addRows, readRun, writeRun } from './results.mjs';

const SAMPLE = fileURLToPath(new URL('./sample.mjs', import.meta.url));
const MARK = '@@sample ';
const SAMPLE_MS = 150_000;

/** Puts a process before others where that is allowed: what still runs in the background then costs compute little, bandwidth still. */
function raisePriority({ pid }) {
  try {
    setPriority(pid, -15);
    writeFileSync(`/proc/${pid}/autogroup`, '-15');
  } catch {}
}

/** The sample that runs: in a session of its own, it would outlive this program. */
let running;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (running !== undefined && running.exitCode === null) process.kill(-running.pid, 'SIGKILL');
    process.exit(130);
  });
}

function startSample(node, flags, job) {
  return new Promise((resolve) => {
    const args = [...flags, SAMPLE, JSON.stringify(job)];
    // Detached: a session of its own has a priority of its own.
    const child = spawn(node.path, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: SAMPLE_MS, detached: true });
    raisePriority(child);
    running = child;
    let out = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
    child.on('error', (error) => resolve({ rows: [], failed: [{ reason: error.message }] }));
    child.on('close', (code, signal) => {
      const line = out.split('\n').findLast((one) => one.startsWith(MARK));
      if (line !== undefined) resolve(JSON.parse(line.slice(MARK.length)));
      else {
        const said = errors.split('\n').find((one) => /error/i.test(one)) ?? '';
        resolve({ rows: [], failed: [{ reason: `its process ended with ${signal ?? code}${said === '' ? '' : `: ${said.trim()}`}` }] });
      }
    });
  });
}

/** Peers that are installed; what is missing is noted in the run. */
async function installedPeers(run, names) {
  const usable = [];
  for (const name of names) {
    try {
      run.versions[name] = versionsOf(await loadPeer(name)).join(', ');
      usable.push(name);
    } catch (error) {
      addAbsent(run, name, { reason: error.message });
    }
  }
  return usable;
}

/** Thrown where something else is running. */
export class BusyError extends Error {}

async function checkIdle(run, evenIfBusy, ms) {
  const busy = await busyProcessors(ms);
  run.busiest = Math.max(run.busiest, Number(busy.toFixed(2)));
  if (busy <= BUSY) return;
  const message = `${busy.toFixed(2)} processors are busy with something else`;
  if (!evenIfBusy) throw new BusyError(`${message}: figures would say nothing. End it, or measure all the same with --even-if-busy.`);
}

/**
 * Runs a group's jobs in turn, a process for each, `rounds` times over: A B C A B C. The run is saved after each round, so that one that is
 * cut off counts as far as it came; `append` goes on with the run that is there.
 */
export async function runGroup({ group, node, threads, peers, kinds, rounds, append, evenIfBusy, log }) {
  const definition = groups[group];
  const earlier = append ? readRun(group, node, threads) : undefined;
  const run = earlier ?? {
    group,
    node: node.version,
    threads,
    machine: describeMachine(),
    commit: describeCommit(),
    date: new Date().toISOString().slice(0, 10),
    busiest: 0,
    versions: {},
    absent: [],
    rows: [],
  };
  await checkIdle(run, evenIfBusy, 1000);
  const usable = await installedPeers(run, peers);
  const jobs = (await definition.jobs(usable, threads))
    .map((job) => ({ ...job, items: job.items.filter(({ kind }) => kinds === undefined || kind === 'limit' || kinds.includes(kind)) }))
    .filter(({ items }) => items.length > 0);
  for (let round = 0; round < rounds; round++) {
    for (const job of jobs) {
      const flags = job.peer === 'limit' || job.open === false ? [] : ((await loadPeer(job.peer)).nodeFlags?.(node.major) ?? []);
      const { rows, failed } = await startSample(node, flags, job);
      addRows(run, job.peer, rows);
      for (const failure of failed) addAbsent(run, job.peer, failure);
      for (const { what, kind, unit, value } of rows) log(`  ${job.peer} ${kind} ${what}: ${value.toPrecision(4)} ${unit}`);
      for (const { kind, what, reason } of failed) log(`  ${job.peer} ${kind ?? ''} ${what ?? ''}: not run: ${reason}`);
    }
    await checkIdle(run, true, 300);
    writeRun(run);
  }
  return run;
}
