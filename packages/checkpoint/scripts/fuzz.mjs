// Runs the fuzz test over a million files (or as many as the first argument says) instead of the short run of `npm test`.
import { fileURLToPath } from 'node:url';
import { startVitest } from 'vitest/node';

process.env.UNROLL_FUZZ_FILES = process.argv[2] ?? process.env.UNROLL_FUZZ_FILES ?? '1000000';
const root = fileURLToPath(new URL('../../..', import.meta.url));
process.chdir(root);
const vitest = await startVitest('test', ['packages/checkpoint/test/fuzz.test.ts'], { run: true, watch: false, root });
await vitest.close();
