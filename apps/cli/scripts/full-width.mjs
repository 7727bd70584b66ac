// The widths of huginn-0125 (5280 wide, 55 heads of 96, an MLP of 17920, 65536 tokens) on both devices, with one layer in each part instead of two,
// four and two: 1.6 of its 3.6 billion parameters. Prints how far the logits are apart; fails where they are not those of one model.
// WebGPU is a software adapter where there is no GPU: minutes, and no measure of speed. From built packages and the package `webgpu`.
//
//   node apps/cli/scripts/full-width.mjs [--dtype q4] [--prelude 1] [--coda 1] [--prompt 3] [--recurrences 2]
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { float32ToF16 } from '@unroll/checkpoint';
import { forward, loadRecurrentModel, parameterShapes, parseRecurrentConfig } from '@unroll/recurrent';
import { weightParts } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { createWebGPUDevice } from '@unroll/tensor/webgpu';
import { create } from 'webgpu';
import { aligned } from './lib/runs.mjs';

const { values } = parseArgs({
  options: {
    dtype: { type: 'string', default: 'q4' },
    prelude: { type: 'string', default: '1' },
    coda: { type: 'string', default: '1' },
    prompt: { type: 'string', default: '3' },
    recurrences: { type: 'string', default: '2' },
  },
});
const { dtype } = values;
if (dtype !== 'q4' && dtype !== 'bf16') throw new Error(`--dtype must be q4 or bf16; got ${dtype}`);
const [promptLength, recurrences] = [Number(values.prompt), Number(values.recurrences)];
const json = {
  n_embd: 5280,
  n_heads: 55,
  intermediate_size: 17920,
  vocab_size: 65536,
  block_size: 64,
  n_layers_in_prelude: Number(values.prelude),
  n_layers_in_recurrent_block: 1,
  n_layers_in_coda: Number(values.coda),
  mean_recurrence: 32,
  norm_eps: 1e-6,
  tie_embeddings: true,
  qk_bias: true,
};
const config = parseRecurrentConfig(json);
const V = config.vocabularySize;

/** Random bytes, the same for the same seed (xorshift32). */
function randomBytes(/** @type {number} */ bytes, /** @type {number} */ seed) {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let x = Math.imul(seed + 1, 0x9e3779b9) | 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return new Uint8Array(words.buffer, 0, bytes);
}

/** Matrices of random values, made as they are read: deviation about 1 / sqrt(K), scales of sixteen sizes; norms of 1. */
function source() {
  const entries = new Map();
  /** @type {Map<string, () => Uint8Array>} */
  const bytes = new Map();
  let seed = 0;
  for (const [name, shape] of parameterShapes(config)) {
    const own = seed++;
    if (shape.length !== 2) {
      entries.set(name, { dtype: 'F32', shape });
      const size = shape.reduce((product, n) => product * n, 1);
      bytes.set(name, () => new Uint8Array(new Float32Array(size).fill(name.endsWith('qk_bias') ? 0.1 : 1).buffer));
      continue;
    }
    const deviation = 1 / Math.sqrt(shape[1] ?? 1);
    if (dtype === 'bf16') {
      entries.set(name, { dtype: 'BF16', shape });
      // Sign and mantissa by chance, one exponent: plus or minus 1 to 2 times a power of two.
      const exponent = (127 + Math.round(Math.log2(deviation / 1.5))) << 7;
      bytes.set(name, () => {
        const random = randomBytes(2 * (shape[0] ?? 1) * (shape[1] ?? 1), own);
        const halves = new Uint16Array(random.buffer, 0, random.length / 2);
        for (let i = 0; i < halves.length; i++) halves[i] = ((halves[i] ?? 0) & 0x807f) | exponent;
        return random;
      });
      continue;
    }
    for (const part of weightParts('q4', shape)) {
      entries.set(name + part.suffix, { dtype: part.dtype, shape: part.shape });
      bytes.set(name + part.suffix, () => {
        if (part.suffix !== '.scales') return randomBytes(part.bytes, own);
        // Both signs: values of -8 to 7 have a mean, which would take over the state.
        const sizes = float32ToF16(
          Float32Array.from({ length: 16 }, (_, i) => ((i % 2 === 0 ? 1 : -1) * (0.5 + i / 15) * deviation) / 4.6),
        );
        return new Uint8Array(Uint16Array.from(randomBytes(part.bytes / 2, own + 1000), (one) => sizes[one & 15] ?? 0).buffer);
      });
    }
  }
  return { name: 'full width', entries, read: async (/** @type {string} */ name) => /** @type {() => Uint8Array} */ (bytes.get(name))() };
}

const passes = [Array.from({ length: promptLength }, (_, i) => (65535 - i * 7919) % V), [12], [65504]];

/** Logits of the last position behind a prompt in one pass and behind two tokens by themselves, and the seconds of each. */
async function run(/** @type {import('@unroll/tensor').Device} */ device) {
  const began = performance.now();
  const model = await loadRecurrentModel({ device, config: json, weights: source(), ...(dtype === 'bf16' ? { dtype } : {}) });
  console.log(
    `${device.description}; loaded in ${((performance.now() - began) / 1000).toFixed(1)} s; ${device.memory().bytes.weights} bytes of weights`,
  );
  const cache = model.createCache();
  const all = [];
  for (const tokens of passes) {
    const started = performance.now();
    const logits = forward(model, [tokens], { recurrences, cache, initialState: { seed: 3 } });
    const data = await logits.data();
    logits.dispose();
    all.push({ logits: data.slice(-V), seconds: (performance.now() - started) / 1000 });
  }
  cache.dispose();
  model.dispose();
  device.dispose();
  return all;
}

const driver = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (process.env.VK_DRIVER_FILES === undefined && existsSync(driver)) process.env.VK_DRIVER_FILES = driver;
process.env.XDG_RUNTIME_DIR ??= tmpdir();
const onCpu = await run(createCpuDevice());
// Bindings no larger than any adapter must offer: the embedding is split by rows.
const gpu = /** @type {import('@unroll/tensor/webgpu').GpuLike} */ (/** @type {unknown} */ (create([])));
const onGpu = await run(await createWebGPUDevice({ gpu, maxBindingBytes: 2 ** 27 }));

// Beside q4, activations are rounded to int8: a last bit becomes a step, steps become others, and what is left is the noise of that rounding.
const limit = dtype === 'q4' ? 0.1 : 1e-4;
const top = (/** @type {Float32Array} */ logits) => logits.reduce((best, x, i) => (x > (logits[best] ?? 0) ? i : best), 0);
let bad = 0;
const rows = [['tokens', 'rms of logits', 'rms apart', 'most apart', 'most likely token', 's on cpu', 's on webgpu']];
onCpu.forEach(({ logits, seconds }, i) => {
  const other = onGpu[i];
  if (other === undefined) throw new Error('a pass is missing');
  const rms = (/** @type {Float32Array} */ list) => Math.sqrt(list.reduce((sum, x) => sum + x * x, 0) / list.length);
  const apart = logits.map((x, j) => x - (other.logits[j] ?? Number.NaN));
  const worst = apart.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const [one, two] = [top(logits), top(other.logits)];
  if (!(rms(apart) < limit * rms(logits))) bad++;
  const same = one === two ? String(one) : `${one} and ${two}`;
  rows.push([
    String(passes[i]?.length),
    rms(logits).toFixed(3),
    rms(apart).toExponential(1),
    worst.toExponential(1),
    same,
    seconds.toFixed(2),
    other.seconds.toFixed(1),
  ]);
});
for (const line of aligned(rows)) console.log(line);
if (bad > 0) {
  console.error(`${bad} passes differ by more than ${100 * limit} % of the logits`);
  process.exitCode = 1;
}
