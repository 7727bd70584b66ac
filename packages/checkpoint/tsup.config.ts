import { library } from '../../tooling/tsup/library.mjs';

export default {
  ...library(['src/index.ts', 'src/node.ts']),
  // `node:fs` without its prefix is a package name to Deno, Bun and Workers.
  removeNodeProtocol: false,
};
