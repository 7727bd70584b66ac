// How far a model in another weight format is from the model in f32 on this machine's WebGPU adapter, over forced tokens of a trained model:
//   VK_DRIVER_FILES=$(node tooling/scripts/lavapipe.mjs) node apps/cli/scripts/half.mjs [f16 | bf16 | q8 | q4] [adder | reckoner] [r]
// Ends with code 1 beyond the tolerances of `LIMITS`. Uses the built packages.
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { openCheckpoint } from '@unroll/checkpoint';
import { folderFiles } from '@unroll/checkpoint/node';
import { forward, loadRecurrentModel } from '@unroll/recurrent';
import { createWebGPUDevice } from '@unroll/tensor/webgpu';
import { parseTokenizer } from '@unroll/tokenizer';

/** Least share of equal most likely tokens, and most of the norm of the logits' difference by that of the logits. */
const LIMITS = { f16: [0.99, 0.002], bf16: [0.98, 0.05], q8: [0.97, 0.1], q4: [0.85, 0.5] };
const TOKENS = 2000;

const [format = 'f16', name = 'reckoner', depth = '8'] = process.argv.slice(2);
if (!(format in LIMITS)) throw new Error(`the format must be ${Object.keys(LIMITS).join(', ')}; got "${format}"`);
const recurrences = Number(depth);
const folder = fileURLToPath(new URL(`../../../packages/pretrained/models/${name}/`, import.meta.url));
const json = (file) => JSON.parse(readFileSync(`${folder}${file}`, 'utf8'));
const tokenizer = parseTokenizer({ tokenizer: json('tokenizer.json'), config: json('tokenizer_config.json') });

process.env.XDG_RUNTIME_DIR ??= tmpdir();
const { create } = await import('webgpu');
const device = await createWebGPUDevice({ gpu: create(['backend=vulkan']) });
console.log(device.description);

const load = async (dtype) =>
  loadRecurrentModel({
    device,
    config: json('config.json'),
    weights: await openCheckpoint(folderFiles(folder)),
    ...(dtype ? { dtype } : {}),
  });
const models = [await load(), await load(format)];

// Every so manieth problem, so that all tasks and levels are among them; each text is forced, and every position's prediction compared.
const problems = readFileSync(`${folder}problems.jsonl`, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));
const texts = problems.map(({ prompt, answer }) => tokenizer.encode(`${prompt}${answer}\n`)).sort((a, b) => a.length - b.length);
const step = Math.max(1, Math.floor(texts.reduce((sum, text) => sum + text.length, 0) / TOKENS / 1.2));
const taken = texts.filter((_, i) => i % step === 0);
const best = (row) => row.reduce((at, x, i) => (x > row[at] ? i : at), 0);

let tokens = 0;
let equal = 0;
let square = 0;
let squareOff = 0;
let largest = 0;
for (let i = 0; i < taken.length; ) {
  const batch = taken.slice(i, i + 16).filter((text) => text.length === taken[i].length);
  i += batch.length;
  const [exact, close] = await Promise.all(
    models.map(async (model) => {
      const logits = forward(model, batch, { recurrences, initialState: { scale: 0 } });
      const data = await logits.data();
      logits.dispose();
      return data;
    }),
  );
  const V = exact.length / (batch.length * batch[0].length);
  for (let at = 0; at < exact.length; at += V) {
    const [x, y] = [exact.subarray(at, at + V), close.subarray(at, at + V)];
    tokens++;
    if (best(x) === best(y)) equal++;
    for (let v = 0; v < V; v++) {
      square += x[v] ** 2;
      squareOff += (x[v] - y[v]) ** 2;
      largest = Math.max(largest, Math.abs(x[v] - y[v]));
    }
  }
}
for (const model of models) model.dispose();
await device.idle();
device.dispose();
const agreement = equal / tokens;
const error = Math.sqrt(squareOff / square);
const [least, most] = LIMITS[format];
console.log(`${name}, ${format} beside f32, ${recurrences} recurrences, ${tokens} forced tokens in ${taken.length} texts`);
console.log(`most likely token equal: ${equal} of ${tokens}, ${(100 * agreement).toFixed(2)} % (at least ${100 * least} %)`);
console.log(`logits: relative error ${error.toExponential(2)} (at most ${most}), largest difference ${largest.toExponential(2)}`);
const passed = tokens >= TOKENS && agreement >= least && error <= most;
console.log(passed ? 'within the tolerance' : 'BEYOND the tolerance');
if (!passed) process.exitCode = 1;
