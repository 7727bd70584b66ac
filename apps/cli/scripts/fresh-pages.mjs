// What the system takes for the fresh memory that a model is loaded into: seconds to touch so many bytes of WebAssembly memory by one thread, and
// to read a file from the page cache into it by one to four reads at once, the second time into pages that are there.
//
//   node apps/cli/scripts/fresh-pages.mjs [FILE]       a file of at most 4 GB; one of 2 GB is made where none is named
import { execFileSync } from 'node:child_process';
import { open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const page = 65536;
const piece = 1 << 23;
const made = join(tmpdir(), `unroll-fresh-pages-${process.pid}`);
const path = process.argv[2] ?? made;
if (path === made) {
  const handle = await open(path, 'w');
  for (let i = 0; i < 250; i++) await handle.write(new Uint8Array(8e6).fill(i));
  await handle.close();
}

const fresh = (/** @type {number} */ bytes) => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
  memory.grow(Math.ceil(bytes / page));
  return new Uint8Array(memory.buffer);
};
const timed = async (/** @type {() => unknown} */ f) => {
  const began = performance.now();
  await f();
  return `${((performance.now() - began) / 1000).toFixed(2)} s`;
};

const handle = await open(path, 'r');
try {
  const bytes = (await handle.stat()).size;
  const read = async (/** @type {Uint8Array} */ into, /** @type {number} */ atOnce) => {
    let next = 0;
    const lane = async () => {
      for (let at = next; at < bytes; at = next) {
        next += piece;
        await handle.read(into, at, Math.min(piece, bytes - at), at);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, lane));
  };
  // A process for each, so that none has the memory of another beside it.
  const only = process.argv[3];
  if (only === 'touch') {
    const touched = fresh(bytes);
    const touch = () => {
      for (let i = 0; i < bytes; i += 4096) touched[i] = 1;
    };
    console.log(`${(bytes / 1e9).toFixed(2)} GB: touching fresh pages ${await timed(touch)}, once more ${await timed(touch)}`);
  } else if (only !== undefined) {
    const into = fresh(bytes);
    const [first, again] = [await timed(() => read(into, Number(only))), await timed(() => read(into, Number(only)))];
    console.log(`reading into fresh pages, ${only} at once: ${first}, once more ${again}`);
  } else {
    // Into the page cache.
    const buffer = new Uint8Array(piece);
    for (let at = 0; at < bytes; at += piece) await handle.read(buffer, 0, piece, at);
    for (const one of ['touch', '1', '2', '4'])
      execFileSync(process.execPath, [fileURLToPath(import.meta.url), path, one], { stdio: 'inherit' });
  }
} finally {
  await handle.close();
  if (path === made) await rm(made);
}
