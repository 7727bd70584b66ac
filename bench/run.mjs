// Our CPU kernels and decoders beside those of other libraries: `npm run bench` at the root. Runs are saved in bench/results as JSON; what
// is printed, and docs/performance.md, are made from there.

import { groups } from './src/groups/index.mjs';
import { defaultNodes, findNode } from './src/nodes.mjs';
import { parseOptions, usage } from './src/options.mjs';
import { writeReport } from './src/report.mjs';
import { BusyError, runGroup } from './src/runner.mjs';
import { runTable } from './src/table.mjs';

async function main(options) {
  if (options.help) return console.log(usage);
  if (options.write) return console.log(`wrote ${writeReport()}`);
  const nodes = options.node === undefined ? defaultNodes() : [findNode(options.node)];
  for (const group of options.groups) {
    for (const node of nodes) {
      for (const threads of options.threads ?? groups[group].threads) {
        if (!groups[group].threads.includes(threads)) continue;
        console.error(`${group}, Node ${node.version}, ${threads} thread${threads === 1 ? '' : 's'}`);
        const run = await runGroup({ ...options, group, node, threads, log: console.error });
        console.log(`${runTable(run)}\n`);
      }
    }
  }
}

try {
  await main(parseOptions(process.argv.slice(2)));
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = error instanceof BusyError ? 3 : 1;
}
