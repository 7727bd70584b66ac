import { encodeSafetensors } from '@unroll/checkpoint';
import { type Device, forEachTensor, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { createWebGPUDevice, type GpuLike } from '@unroll/tensor/webgpu';
import {
  drawHeldOut,
  lossByDepth,
  packProblems,
  parseTrainingConfig,
  solvedByDepth,
  Trainer,
  type TrainingConfig,
  tasks,
  tokenizerFiles,
} from '@unroll/train';
import type { EngineState } from './engine.js';
import type { CallContext } from './host.js';
import type { Example, Methods, TrainArgs } from './protocol.js';

const DEPTHS = [1, 2, 4, 8, 16, 32];
const PROBLEMS = 64;
const VOCABULARY = 24;
const CONTEXT = 64;
/** Steps between measurements; the first come sooner, so that there is something to see. */
const isDue = (step: number, last: number): boolean => step === last || (step < 50 ? step % 10 === 0 : step % 50 === 0);

/** The page's choices as a training config. Throws OptionError for what does not fit. */
export function configOf(args: TrainArgs): TrainingConfig {
  const { width, meanDepth: mean, steps } = args;
  const shares = args.tasks.map((name) => {
    const task = tasks[name];
    if (task === undefined) throw new Error(`there is no task "${name}"; there are ${Object.keys(tasks).join(', ')}`);
    const [least, most] = task.levels;
    // Accuracy is measured on held-out problems, which the lowest levels do not have.
    const highest = Math.max(task.heldOutFrom, least + args.level - 1);
    return { task: name, weight: 1, levels: [least, Math.min(most, highest)] as const };
  });
  return parseTrainingConfig({
    model: {
      architectures: ['RavenForCausalLM'],
      model_type: 'huginn_raven',
      torch_dtype: 'float32',
      bias: false,
      tie_embeddings: true,
      qk_bias: true,
      norm_eps: 1e-6,
      n_embd: width,
      num_attention_heads: 4,
      intermediate_size: Math.round((width * 8) / 3 / 16) * 16,
      vocab_size: VOCABULARY,
      block_size: CONTEXT,
      n_layers: 4,
      n_layers_in_prelude: 1,
      n_layers_in_recurrent_block: 2,
      n_layers_in_coda: 1,
      mean_recurrence: mean,
      mean_backprop_depth: Math.min(4, mean),
    },
    seed: args.seed,
    steps,
    tasks: shares,
    microBatch: args.batch,
    depth: { kind: 'lognormal-poisson', mean, gradient: Math.min(4, mean), limit: 4 * mean },
    schedule: { kind: 'warmup-constant', peak: args.rate, warmup: Math.min(20, steps) },
    optimizer: { name: 'adamw', weightDecay: 0.01 },
    clip: 1,
  });
}

async function openDevice(kind: TrainArgs['device']): Promise<Device> {
  if (kind === 'cpu') return createCpuDevice();
  return createWebGPUDevice({ gpu: (navigator as { gpu?: GpuLike }).gpu });
}

/** A checkpoint folder of the model so far. */
async function exportFiles(trainer: Trainer): Promise<{ readonly name: string; readonly blob: Blob }[]> {
  const weights: Parameters<typeof encodeSafetensors>[0] extends Iterable<infer T> ? T[] : never = [];
  const tensors: [string, Tensor][] = [];
  forEachTensor(trainer.model.params, (tensor, name) => tensors.push([name, tensor]));
  for (const [name, tensor] of tensors) {
    const bytes = new Uint8Array((await tensor.data()).buffer as ArrayBuffer);
    weights.push({ name, dtype: 'F32', shape: tensor.shape, bytes });
  }
  const encoded = await encodeSafetensors(weights);
  const json = { 'config.json': trainer.config.model, ...tokenizerFiles(trainer.model.contextLength) };
  return [
    { name: 'model.safetensors', blob: new Blob([encoded as Uint8Array<ArrayBuffer>]) },
    ...Object.entries(json).map(([name, value]) => ({ name, blob: new Blob([JSON.stringify(value, null, 1)]) })),
  ];
}

function examplesOf(config: TrainingConfig): Example[] {
  return config.tasks.flatMap((task) => drawHeldOut([task], 0, 8).map(({ prompt, answer }) => ({ prompt, answer, task: task.task })));
}

/** Trains until the steps are done or the page stops it; what was learned stays for saving and for use. */
export async function runTraining(
  engine: EngineState,
  args: TrainArgs,
  { signal, item }: CallContext<'train'>,
): Promise<Methods['train']['result']> {
  const config = configOf(args);
  const device = await openDevice(args.device);
  try {
    const trainer = new Trainer(device, config);
    try {
      const held = packProblems(
        drawHeldOut(config.tasks, 0, PROBLEMS).map((problem) => [problem]),
        trainer.model.contextLength,
      );
      while (trainer.step < config.steps && !signal.aborted) {
        const started = performance.now();
        // One step at a time, so that answers in the other tab come in between.
        const result = await engine.turns.take(signal, () => trainer.train());
        const seconds = (performance.now() - started) / 1000;
        const { step, loss, n, k, tokens } = result;
        item({ kind: 'step', step, loss, depth: n + k, tokensPerSecond: tokens / seconds });
        if (isDue(step, config.steps)) {
          const solved = await solvedByDepth(trainer.model, held, DEPTHS);
          const accuracy = solved.map((right) => right.filter(Boolean).length / PROBLEMS);
          const losses = await lossByDepth(trainer.model, held.data, DEPTHS);
          item({ kind: 'accuracy', step, depths: DEPTHS, accuracy, loss: losses.map((one) => one.loss) });
        }
        // A step on the CPU does not await anything that takes time: let a stop be heard.
        await new Promise((resolve) => setTimeout(resolve));
      }
      if (trainer.step > 0) engine.trained = { files: await exportFiles(trainer), examples: examplesOf(config) };
      return { steps: trainer.step };
    } finally {
      trainer.dispose();
    }
  } finally {
    device.dispose();
  }
}
