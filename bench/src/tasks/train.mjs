import { clipByGlobalNorm } from '../../../packages/nn/dist/optim.js';
import { trainingLoss } from '../../../packages/recurrent/dist/index.js';
import { disposeTree, matmul, valueAndGrad } from '../../../packages/tensor/dist/index.js';
import { Trainer } from '../../../packages/train/dist/index.js';
import { initialWeights, matrixOperations, trainingJob } from '../models/training.mjs';
import { uniform } from '../numbers.mjs';
import { median, timeCalls } from '../statistics.mjs';

const RATE = 1e-5;

async function unrollStep(device, { config, data, n, k }, seconds) {
  const trainer = new Trainer(device, config);
  const { model, optimizer } = trainer;
  const lossFrom = async (initialState) => {
    const loss = trainingLoss(model, data, { n, k, initialState });
    const [value] = await loss.data();
    loss.dispose();
    return value;
  };
  const loss = await lossFrom({ scale: 0 });
  let seed = 0;
  const step = async () => {
    seed++;
    const result = valueAndGrad(
      () => trainingLoss(model, data, { n, k, initialState: { seed }, recompute: config.recompute ?? false }),
      model.params,
    );
    const clipped = clipByGlobalNorm(result.grads, config.clip ?? 1);
    await clipped.norm.data();
    optimizer.step(clipped.grads, { learningRate: RATE });
    disposeTree([result, clipped]);
  };
  const ms = median(await timeCalls(step, { budgetMs: seconds * 1000 }));
  const peak = process.resourceUsage().maxRSS * 1024;
  const square = device.tensor(uniform(1 << 20, 1), [1024, 1024]);
  const gemmMs = median(await timeCalls(() => matmul(square, square, { transposeB: true }).dispose(), { budgetMs: 500 }));
  for (const one of [square, trainer]) one.dispose();
  return { ms, loss, peak, gemm: (2 * 1024 ** 3) / gemmMs / 1e6 };
}

/** Tokens a second of a training step (loss, gradients, clipping, optimiser), the rate of the same library's GEMM, and peak memory. */
export async function run(session, { batch, what, seconds }, { threads }) {
  const job = trainingJob(batch);
  const { config, data, n, k } = job;
  const kind = `${threads} thread${threads === 1 ? '' : 's'}`;
  const tokens = data.tokens.length;
  let result;
  if (session.device !== undefined) {
    const { ms, ...more } = await unrollStep(session.device, job, seconds);
    result = { ...more, rate: (tokens / ms) * 1000 };
  } else {
    const { name, weightDecay = 0 } = config.optimizer;
    const parents = data.parents ?? Int32Array.from({ length: tokens }, (_, i) => ((i % (tokens / data.batch)) - 1 < 0 ? -1 : i - 1));
    const plain = { tokens: [...data.tokens], targets: [...data.targets], parents: [...parents] };
    const got = session.train({
      model: config.model,
      params: await initialWeights(),
      ...plain,
      n,
      k,
      optimizer: name,
      decay: weightDecay,
      seconds,
    });
    result = { ...got, rate: Math.max(...Object.values(got.layouts)) };
  }
  const share = ((matrixOperations(config, tokens, n, k) / tokens) * result.rate) / 1e9 / result.gemm;
  return [
    { what: `${what}: training`, kind, unit: 'tok/s', value: result.rate, loss: result.loss, tokens },
    { what: `${what}: GEMM 1024 of the same library`, kind, unit: 'GFLOPS', value: result.gemm },
    { what: `${what}: matrices' share of that rate`, kind, unit: '%', value: 100 * share },
    { what: `${what}: peak resident memory`, kind, unit: 'MiB', value: result.peak / 2 ** 20 },
  ];
}
