// The default model's recipe as a training step of fixed depth over one batch, for us and for torch.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { initParams, parseRecurrentConfig } from '../../../packages/recurrent/dist/index.js';
import { createCpuDevice } from '../../../packages/tensor/dist/cpu.js';
import { forEachTensor } from '../../../packages/tensor/dist/index.js';
import { packProblems, Trainer } from '../../../packages/train/dist/index.js';
import { cached, writePieces } from './weights.mjs';

const RECIPE = fileURLToPath(new URL('../../../packages/train/recipes/default.json', import.meta.url));

export function recipe() {
  const { curriculum: _, ...config } = JSON.parse(readFileSync(RECIPE, 'utf8'));
  return config;
}

/** One row of 32 tokens with every next token as target. */
const ONE_ROW = {
  batch: 1,
  tokens: Int32Array.from({ length: 32 }, (_, i) => (i * 7 + 3) % 24),
  targets: Int32Array.from({ length: 32 }, (_, i) => (i * 5 + 1) % 24),
};

/** The batch, and recurrences without (n) and with gradient (k): the recipe's means. `batch` is `default` or `row`. */
export function trainingJob(batch) {
  const config = recipe();
  const { mean, gradient } = config.depth;
  const k = Math.min(gradient, mean);
  let data = ONE_ROW;
  if (batch === 'default') {
    const device = createCpuDevice({ threads: 1 });
    const trainer = new Trainer(device, config);
    const [families] = trainer.families(1);
    data = packProblems(
      families.map(({ problems }) => problems),
      trainer.model.contextLength,
    ).data;
    trainer.dispose();
    device.dispose();
  }
  return { config, data, n: mean - k, k };
}

/** The recipe's first weights as a safetensors file. */
export function initialWeights() {
  const config = recipe();
  const name = `training-${config.model.n_embd}-${config.model.n_layers}-${config.model.intermediate_size}.safetensors`;
  return cached(name, async (path) => {
    const device = createCpuDevice({ threads: 1 });
    const params = initParams(device, parseRecurrentConfig(config.model), { seed: config.seed });
    const list = [];
    forEachTensor(params, (tensor, key) => list.push([key, tensor]));
    const header = {};
    const pieces = [];
    let at = 0;
    for (const [key, tensor] of list) {
      const data = await tensor.data();
      header[key] = { dtype: 'F32', shape: tensor.shape, data_offsets: [at, at + data.byteLength] };
      at += data.byteLength;
      pieces.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    }
    const text = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    await writePieces(path, [length, text, ...pieces]);
    device.dispose();
  });
}

/** Multiply-adds (two operations each) of the matrices in a step: once forward, and twice more where there is a gradient. */
export function matrixOperations({ model }, tokens, n, k) {
  const { n_embd: C, intermediate_size: I, vocab_size: V } = model;
  const block = C * 3 * C + C * C + 3 * C * I;
  const step = block * model.n_layers_in_recurrent_block + 2 * C * C;
  const once = block * (model.n_layers_in_prelude + model.n_layers_in_coda) + V * C;
  return 2 * tokens * (3 * once + step * (n + 3 * k));
}
