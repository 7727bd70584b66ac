// Parsed by old Node versions as well, so that they get the message below instead of a syntax error: nothing newer than Node 12 here.
import { checkNode } from './lib/node-version.mjs';

if (checkNode(process.versions.node, '"npm run variant"')) {
  import('./lib/launch.mjs').then((launcher) => launcher.launchVariant(process.argv.slice(2)));
} else {
  process.exitCode = 1;
}
