import { library } from '../../tooling/tsup/library.mjs';

// No source maps: they would repeat the weights, which are most of this package.
export default { ...library(['src/index.ts']), sourcemap: false };
