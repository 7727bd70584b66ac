// What a model of any size takes on the CPU of this machine, as tables: loading beside a raw read of the same bytes, then by depth the time to the
// first token and of a token, beside the bound that `unroll estimate` prints, from rates that are measured behind each token. From built packages.
//
//   node apps/cli/scripts/full-size.mjs --model DIR [--depths 4,8,16,32] [--tokens 8] [--prompt 14] [--ms 150] [--keep-cache]
//
// --ms 0 measures no rates, for a long run whose memory is of interest.
import { openSync, readdirSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openCheckpoint } from '@unroll/checkpoint';
import { folderFiles } from '@unroll/checkpoint/node';
import { estimate, familyOf, loadRecurrentModel } from '@unroll/recurrent';
import { generate } from '@unroll/sampler';
import { matmul } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { aligned } from './lib/runs.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    depths: { type: 'string', default: '4,8,16,32' },
    tokens: { type: 'string', default: '8' },
    prompt: { type: 'string', default: '14' },
    ms: { type: 'string', default: '150' },
    'keep-cache': { type: 'boolean', default: false },
  },
});
const { model: folder } = values;
if (folder === undefined) throw new Error('name a checkpoint folder with --model');
const depths = values.depths.split(',').map(Number);
const [tokens, promptLength, ms] = [Number(values.tokens), Number(values.prompt), Number(values.ms)];
if (![...depths, tokens, promptLength].every((n) => Number.isInteger(n) && n > 0))
  throw new Error('--depths, --tokens and --prompt take whole numbers from 1');

const gigabytes = (/** @type {number} */ bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
const seconds = (/** @type {number} */ took) => (Number.isNaN(took) ? '-' : `${(took / 1000).toFixed(took < 1e4 ? 3 : 1)} s`);
const resident = () => process.memoryUsage.rss();

/** Empties the page cache, where the system lets us, so that bytes come from the disk. */
function dropCaches() {
  if (values['keep-cache']) return false;
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch {
    return false;
  }
}

/** Milliseconds of reading the weights from first to last, and their bytes. */
function rawRead(/** @type {string} */ from) {
  const buffer = new Uint8Array(1 << 23);
  let bytes = 0;
  const began = performance.now();
  for (const file of readdirSync(from).filter((name) => name.endsWith('.safetensors'))) {
    const handle = openSync(join(from, file), 'r');
    for (let got = readSync(handle, buffer); got > 0; got = readSync(handle, buffer)) bytes += got;
  }
  return { ms: performance.now() - began, bytes };
}

console.log(`${cpus()[0]?.model.trim()}, ${availableParallelism()} cores, Node ${process.versions.node}, ${new Date().toISOString()}`);
const cold = dropCaches();
const raw = rawRead(folder);
dropCaches();
const device = createCpuDevice();
const began = performance.now();
const checkpoint = await openCheckpoint(folderFiles(folder));
const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
const model = await loadRecurrentModel({ device, config, weights: checkpoint });
const loadMs = performance.now() - began;
await checkpoint.close();
const from = cold ? 'from the disk (page cache emptied before each)' : 'from the page cache (or what of them is in it)';
console.log(`loading ${seconds(loadMs)}, a raw read of the same ${gigabytes(raw.bytes)} ${seconds(raw.ms)}, ${from}`);
console.log(
  `resident after loading ${gigabytes(resident())}; weights on the device ${gigabytes(device.memory().bytes.weights)}; ${device.description}`,
);

const stored = checkpoint.names.map((name) => /\.(q8|q4)$/.exec(name)?.[1]).find((format) => format !== undefined);
const dtype = /** @type {'q8' | 'q4' | 'f32'} */ (stored ?? 'f32');
const family = familyOf(checkpoint.names);
const median = (/** @type {number[]} */ list) => [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;

const K = model.config.width - (model.config.width % 32) || 32;
const x = device.zeros([1, K], { memory: 'weights' });
// Far beyond every cache.
const matrices = ms === 0 ? undefined : { own: matrix(dtype, 8 * Math.round(4e7 / K)), f32: matrix('f32', 8 * Math.round(6e6 / K)) };

function matrix(/** @type {'q8' | 'q4' | 'f32'} */ format, /** @type {number} */ rows) {
  return device.zeros([rows, K], { dtype: format, memory: 'weights' });
}

/** Weights a second of products of one row, as many as fit in the time: the mean, since a token is no lucky moment either. */
async function rateOf(/** @type {import('@unroll/tensor').Tensor} */ weights) {
  const started = performance.now();
  let count = 0;
  do {
    const y = matmul(x, weights, { transposeB: true });
    await y.data();
    y.dispose();
    count++;
  } while (performance.now() - started < ms);
  return (1000 * count * weights.size) / (performance.now() - started);
}

const rows = [['depth', 'first token', 'a token', 'bound', 'share', 'G weights/s', 'GB/s read', 'peak', 'resident', 'keys and values']];
for (const depth of depths) {
  const prompt = Array.from({ length: promptLength }, (_, i) => (i * 7919) % model.vocabularySize);
  const peak = () => process.resourceUsage().maxRSS * 1024;
  let last = performance.now();
  const gaps = [];
  const bounds = [];
  const rates = [];
  let [kv, at] = [0, 0];
  for await (const _ of generate({ model, prompt, recurrences: depth, maxNewTokens: tokens + 1, stopTokens: [] })) {
    gaps.push(performance.now() - last);
    if (at === 0) at = resident();
    kv = device.memory().bytes.kv;
    // Behind each token, so that whatever else the machine does meets both alike.
    if (matrices !== undefined) {
      const rate = { weightsPerSecond: await rateOf(matrices.own), bytesPerSecond: 4 * (await rateOf(matrices.f32)) };
      rates.push(rate);
      bounds.push((estimate(model.config, { dtype, family, recurrences: depth, rates: rate }).secondsPerToken ?? Number.NaN) * 1000);
    }
    last = performance.now();
  }
  // The first has the prompt in it.
  const first = gaps.shift() ?? Number.NaN;
  bounds.shift();
  rows.push([
    String(depth),
    seconds(first),
    seconds(median(gaps)),
    seconds(median(bounds)),
    ms > 0 ? `${(100 * median(gaps.map((gap, i) => (bounds[i] ?? 0) / gap))).toFixed(0)} %` : '-',
    ms > 0 ? (median(rates.map(({ weightsPerSecond }) => weightsPerSecond)) / 1e9).toFixed(1) : '-',
    ms > 0 ? (median(rates.map(({ bytesPerSecond }) => bytesPerSecond)) / 1e9).toFixed(1) : '-',
    gigabytes(peak()),
    `${gigabytes(at)} to ${gigabytes(resident())}`,
    gigabytes(kv),
  ]);
}
for (const line of aligned(rows)) console.log(line);
console.log(
  `first token: behind a prompt of ${promptLength}; bound: the slower of a token's weights and its bytes, by the rates measured behind it; medians over ${tokens} tokens; peak: ${ms > 0 ? 'with the 0.37 GB of matrices that rates are measured with' : 'of the process'}`,
);
for (const owner of [x, matrices?.own, matrices?.f32, model, device]) owner?.dispose();
