// Parsed by old Node versions as well, so that they get the message below instead of a syntax error: nothing newer than Node 12 here.
import { checkNode } from './lib/node-version.mjs';

if (checkNode(process.versions.node, '"npm test"')) {
  import('./lib/test-steps.mjs').then((runner) => runner.main(process.argv.slice(2)));
} else {
  console.log('0 passed, 1 failed');
  process.exitCode = 1;
}
