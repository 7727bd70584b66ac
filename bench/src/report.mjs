// docs/performance.md, from the runs in bench/results.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { evaluateBars } from './bars.mjs';
import { groups } from './groups/index.mjs';
import { noteFor } from './notes.mjs';
import { notRun } from './peers/index.mjs';
import { readRuns } from './results.mjs';
import { runTable, wasBusy } from './table.mjs';

const REPORT = fileURLToPath(new URL('../../docs/performance.md', import.meta.url));

const intro = `# Performance

Written by \`npm run bench -- --write\` from the runs in \`bench/results\`. Measure with \`npm run bench\` (all of it takes about an hour), or
a part with, for instance, \`npm run bench -- gemm --threads 1 --peers unroll,tfjs-wasm --node pinned\`; \`--help\` lists the rest.

**How it is measured.** Every sample is a process of its own, and processes take turns: A B C, A B C. A figure is the median over processes of
each process's median, with the least and greatest in brackets; ratios hold within a run, not between runs. Results are checked: products
against f64, f32 decoders token by token against each other. All decoders have the same random weights. Limits are measured in the same run
by hand-written WebAssembly: a 4 x 8 micro-kernel on operands in the first cache, and a sum over 256 MiB.`;

const mark = { true: 'reached', false: '**not reached**', undefined: '' };

function barsTable(runs) {
  const busy = runs.filter(wasBusy).length;
  const caution = [
    `**${busy} of the ${runs.length} runs shared the machine with other work.** Ratios to peers that wait by spinning, such as llama.cpp on two`,
    'threads, then say nothing, whatever the last column has.',
    '',
  ];
  const lines = ['## What is aimed at', '', ...(busy > 0 ? caution : []), '| | aim | measured | |', '|---|---|---|---|'];
  for (const [what, aim, { text, reached }] of evaluateBars(runs)) lines.push(`| ${what} | ${aim} | ${text} | ${mark[reached]} |`);
  return lines.join('\n');
}

/** Why bars are missed. */
function missedNotes(runs) {
  const missed = evaluateBars(runs).filter(([, , { reached }]) => reached === false);
  if (missed.length === 0) return [];
  const byText = new Map();
  for (const [what, aim, { text }] of missed) {
    const note = noteFor(what, aim) ?? 'Not explained yet.';
    byText.set(note, [...(byText.get(note) ?? []), `${what}, ${aim} (${text.split(';')[0]})`]);
  }
  return [['## What is not reached, and why', '', ...[...byText].map(([note, bars]) => `- **${bars.join('; ')}.** ${note}`)].join('\n')];
}

function kernelsTable(run) {
  const rows = run.rows.filter(({ kernels }) => kernels !== undefined);
  const lines = ['| | weights | in kernels | of which (share of all time) |', '|---|---|---|---|'];
  for (const { what, kind, median, kernels } of rows) {
    const list = kernels.slice(0, 6).map(({ kernel, share }) => `${kernel} ${(100 * share).toFixed(1)} %`);
    lines.push(`| ${what} | ${kind} | ${median.toFixed(0)} % | ${list.join(', ')} |`);
  }
  return lines.join('\n');
}

function groupSection(name, runs) {
  const { title, about } = groups[name];
  const parts = [`## ${title}`, '', about];
  for (const run of runs.sort((a, b) => Number.parseInt(b.node, 10) - Number.parseInt(a.node, 10) || a.threads - b.threads)) {
    parts.push('', runTable(run));
    if (name === 'profile') parts.push('', kernelsTable(run));
  }
  return parts.join('\n');
}

/** Writes the report; gives its path. Throws Error where there are no runs. */
export function writeReport() {
  const runs = readRuns();
  if (runs.length === 0) throw new Error('there are no runs in bench/results; measure first');
  const sections = Object.keys(groups)
    .map((name) => [name, runs.filter(({ group }) => group === name)])
    .filter(([, list]) => list.length > 0)
    .map(([name, list]) => groupSection(name, list));
  const others = ['## Not measured', '', ...notRun.map(({ peer, reason }) => `- ${peer}: ${reason}.`)].join('\n');
  writeFileSync(REPORT, `${[intro, barsTable(runs), ...missedNotes(runs), ...sections, others].join('\n\n')}\n`);
  return REPORT;
}
