import { library } from '../../tooling/tsup/library.mjs';

export default {
  ...library(['src/index.ts', 'src/node.ts']),
  // `fs/promises` without its prefix is a package name to Deno, Bun and Workers.
  removeNodeProtocol: false,
  external: [/^node:/],
};
