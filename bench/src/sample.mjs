// One process of a benchmark: opens a peer, runs its items, and prints what came out as the last line. Started by runner.mjs.
import { loadPeer } from './peers/index.mjs';
import { loadTask } from './tasks/index.mjs';

export const MARK = '@@sample ';

const job = JSON.parse(process.argv[2]);
const rows = [];
const failed = [];
const peer = job.peer === 'limit' || job.open === false ? undefined : await loadPeer(job.peer);
try {
  const session = peer === undefined ? undefined : await peer.open({ threads: job.threads });
  for (const item of job.items) {
    try {
      const task = await loadTask[item.task]();
      rows.push(...(await task.run(session, item, job)));
    } catch (error) {
      failed.push({ kind: item.kind, what: item.what, reason: String(error?.message ?? error).split('\n')[0] });
    }
  }
} catch (error) {
  failed.push({ reason: String(error?.message ?? error).split('\n')[0] });
}
process.stdout.write(`\n${MARK}${JSON.stringify({ rows, failed })}\n`, () => process.exit(0));
