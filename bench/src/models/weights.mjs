// The decoders' weights as files: made once, in bench/.cache.
import { createWriteStream, existsSync, mkdirSync, openSync, readFileSync, readSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { uniform } from '../numbers.mjs';
import { decoders, parameters } from './shapes.mjs';

const CACHE = fileURLToPath(new URL('../../.cache/', import.meta.url));

/** A file in the cache, written by `write(path)` where it is not there. */
export async function cached(file, write) {
  const path = join(CACHE, file);
  if (existsSync(path)) return path;
  mkdirSync(CACHE, { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  await write(unfinished);
  renameSync(unfinished, path);
  return path;
}

/** Writes pieces of bytes one behind the other. */
export function writePieces(path, pieces) {
  return new Promise((resolve, reject) => {
    const stream = createWriteStream(path);
    stream.on('error', reject).on('finish', resolve);
    (async () => {
      for await (const piece of pieces) {
        if (!stream.write(piece)) await new Promise((drained) => stream.once('drain', drained));
      }
      stream.end();
    })().catch(reject);
  });
}

/** Values of a parameter: norms are ones, matrices of variance 1 / K, embeddings small beside what the blocks add. */
function valuesOf(name, shape, seed) {
  const size = shape.reduce((a, b) => a * b, 1);
  if (shape.length === 1) return new Float32Array(size).fill(1);
  const scale = name === 'transformer.wte.weight' ? 0.05 : Math.sqrt(3 / shape[1]);
  return uniform(size, seed, scale);
}

/** The f32 safetensors file of a decoder. */
export function weightFile(model) {
  const list = parameters(decoders[model]);
  return cached(`decoder-${model}.safetensors`, (path) => {
    const header = {};
    let at = 0;
    for (const [name, shape] of list) {
      const bytes = shape.reduce((a, b) => a * b, 4);
      header[name] = { dtype: 'F32', shape, data_offsets: [at, at + bytes] };
      at += bytes;
    }
    const text = Buffer.from(JSON.stringify(header));
    const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, ' ')]);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(padded.length));
    return writePieces(
      path,
      (function* () {
        yield length;
        yield padded;
        for (const [i, [name, shape]] of list.entries()) yield Buffer.from(valuesOf(name, shape, i + 1).buffer);
      })(),
    );
  });
}

/** Reads tensors of a decoder's file one by one: `(name) => Float32Array`. */
export async function openWeights(model) {
  const file = openSync(await weightFile(model), 'r');
  const length = Buffer.alloc(8);
  readSync(file, length, 0, 8, 0);
  const size = Number(length.readBigUInt64LE());
  const text = Buffer.alloc(size);
  readSync(file, text, 0, size, 8);
  const header = JSON.parse(text.toString());
  return (name) => {
    const [from, to] = header[name].data_offsets;
    const values = new Float32Array((to - from) / 4);
    readSync(file, new Uint8Array(values.buffer), 0, to - from, 8 + size + from);
    return values;
  };
}

/** The projections of a block apart, as most formats name them: each an array over (rows, columns). */
export function blockWeights(read, { C, H, Hk, D, I }, layer) {
  const block = `transformer.core_block.${layer}`;
  const qkv = read(`${block}.attn.Wqkv.weight`);
  const fc = read(`${block}.mlp.fc.weight`);
  const rows = (data, from, count) => data.subarray(from * C, (from + count) * C);
  return {
    norm1: read(`${block}.norm_1.weight`),
    norm2: read(`${block}.norm_2.weight`),
    qkv: [qkv, [(H + 2 * Hk) * D, C]],
    q: [rows(qkv, 0, H * D), [H * D, C]],
    k: [rows(qkv, H * D, Hk * D), [Hk * D, C]],
    v: [rows(qkv, (H + Hk) * D, Hk * D), [Hk * D, C]],
    o: [read(`${block}.attn.proj.weight`), [C, H * D]],
    gate: [rows(fc, 0, I), [I, C]],
    up: [rows(fc, I, I), [I, C]],
    down: [read(`${block}.mlp.proj.weight`), [C, I]],
  };
}

/**
 * Reorders the first `rows` rows of a projection (heads x D, C) in place, from half-split rotary pairs to neighbouring ones: the same
 * model for libraries that turn neighbours. Gives the data.
 */
export function neighbouringPairs(data, rows, D, C = data.length / rows) {
  for (let head = 0; head < rows; head += D) {
    const old = data.slice(head * C, (head + D) * C);
    for (let i = 0; i < D; i++) {
      const from = (i % 2) * (D / 2) + (i >> 1);
      data.set(old.subarray(from * C, (from + 1) * C), (head + i) * C);
    }
  }
  return data;
}

export const readBytes = (path) => new Uint8Array(readFileSync(path));
