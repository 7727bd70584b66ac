// What the figures were taken on, and whether anything else ran there.
import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';

/** The machine in words. */
export function describeMachine() {
  const model = cpus()[0]?.model?.trim() ?? 'unknown processor';
  return `${availableParallelism()} x ${model}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform} ${process.arch}`;
}

/** The commit that is measured, with a mark when the tree differs from it; undefined outside a checkout. */
export function describeCommit() {
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  try {
    const git = (...args) => execFileSync('git', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    const changed = git('status', '--porcelain', '--', 'packages', 'apps').length > 0;
    return `${git('rev-parse', '--short', 'HEAD')}${changed ? ' with changes' : ''}`;
  } catch {
    return undefined;
  }
}

const worked = () => cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);

/** Processors in use on the whole machine over some time in which this program waits. */
export async function busyProcessors(ms = 1000) {
  const [before, started] = [worked(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, ms));
  return (worked() - before) / (performance.now() - started);
}

/** Beyond this, something else is running. */
export const BUSY = 0.15;
