import { bytesSink, bytesSource, encodeSafetensors, openSafetensors } from '@unroll/checkpoint';
import { concatInjection, forward, loadRecurrentModel, type ModelFamily, sandwich, tokenLosses } from '@unroll/recurrent';
import { affine } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { findLeaks } from '@unroll/tensor/testing';
import {
  DivergedError,
  drawHeldOut,
  encodeText,
  endToken,
  lossByDepth,
  measureStates,
  type Objective,
  packProblems,
  parseTrainingConfig,
  ResumeError,
  resumeTraining,
  saveModel,
  saveTraining,
  solvedByDepth,
  stateMetrics,
  Trainer,
  type TrainingConfig,
} from '@unroll/train';
import { afterAll, afterEach, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());
afterEach(() => expect(device.memory().buffers).toBe(0));

const config: TrainingConfig = {
  model: {
    n_embd: 32,
    num_attention_heads: 2,
    intermediate_size: 48,
    vocab_size: 24,
    block_size: 32,
    n_layers_in_prelude: 1,
    n_layers_in_recurrent_block: 1,
    n_layers_in_coda: 1,
    mean_recurrence: 3,
    mean_backprop_depth: 2,
    norm_eps: 1e-6,
    tie_embeddings: true,
    qk_bias: true,
  },
  seed: 4,
  steps: 100,
  tasks: [{ task: 'addition', weight: 1, levels: [1, 2] }],
  microBatch: 8,
  depth: { kind: 'lognormal-poisson', mean: 3, gradient: 2 },
  schedule: { kind: 'warmup-constant', peak: 0.005, warmup: 5 },
  optimizer: { name: 'adamw', weightDecay: 0.01 },
};

const weightsOf = (trainer: Trainer) =>
  [...trainer.tensors()].map(([name, tensor]) => [name, [...new Int32Array(device.readSync(tensor).buffer)]]);
const steps = async (trainer: Trainer, count: number) => {
  const losses: number[] = [];
  for (let i = 0; i < count; i++) losses.push((await trainer.train()).loss);
  return losses;
};

async function saved(trainer: Trainer): Promise<Uint8Array> {
  const sink = bytesSink();
  await saveTraining(sink, trainer);
  return sink.bytes();
}

const open = (bytes: Uint8Array) => openSafetensors(bytesSource(bytes));

describe('a run', () => {
  it.each(['adamw', 'ellisAdam', 'muon'] as const)('goes on from what was saved, bit for bit, with %s', async (name) => {
    const tasks = [{ task: 'parity', weight: 1, levels: [1, 4] as const }];
    const curriculum = { solved: 10, focus: 0.5 };
    const run = { ...config, tasks, curriculum, optimizer: { name }, accumulate: 2, microBatch: 4, ema: 0.9 };
    const whole = new Trainer(device, run);
    await steps(whole, 5);
    const first = new Trainer(device, run);
    await steps(first, 3);
    const bytes = await saved(first);
    const second = new Trainer(device, run);
    const file = await open(bytes);
    await resumeTraining(file, second);
    expect([second.step, second.tokens, second.curriculum]).toEqual([first.step, first.tokens, first.curriculum]);
    await steps(second, 2);
    expect(weightsOf(second)).toEqual(weightsOf(whole));
    expect(weightsOf(second)).not.toEqual(weightsOf(first));
    // A limit of 10 nats is met by any model: each step that is deep enough goes up.
    expect(whole.curriculum!.level[0]).toBeGreaterThan(2);
    expect(second.curriculum).toEqual(whole.curriculum);
    for (const trainer of [whole, first, second]) trainer.dispose();
    await file.close();
  });

  it('learns, by every optimiser', async () => {
    for (const [name, peak] of [
      ['adamw', 0.005],
      ['ellisAdam', 0.003],
      ['muon', 0.02],
    ] as const) {
      const trainer = new Trainer(device, { ...config, optimizer: { name }, schedule: { kind: 'warmup-constant', peak, warmup: 5 } });
      const losses = await steps(trainer, 60);
      const mean = (part: readonly number[]) => part.reduce((a, b) => a + b) / part.length;
      expect(mean(losses.slice(-10)), name).toBeLessThan(0.75 * mean(losses.slice(0, 5)));
      trainer.dispose();
    }
  });

  it('has the same gradient in micro-batches as at once', async () => {
    const fixed = {
      ...config,
      depth: { kind: 'fixed', mean: 2, gradient: 2 } as const,
      tasks: [{ task: 'addition', weight: 1, levels: [2, 2] as const }],
    };
    const [whole, parts] = [
      new Trainer(device, { ...fixed, microBatch: 8 }),
      new Trainer(device, { ...fixed, microBatch: 2, accumulate: 4 }),
    ];
    const [a, b] = [await whole.train(), await parts.train()];
    // Micro-batches have more and fewer targets: their means alone would not have the mean of all.
    expect(b.loss).toBeCloseTo(a.loss, 4);
    expect(b.gradNorm / a.gradNorm).toBeCloseTo(1, 3);
    expect(b.tokens).toBe(a.tokens);
    whole.dispose();
    parts.dispose();
  });

  it('stops, with the weights as they were, when its numbers are no numbers any more', async () => {
    const trainer = new Trainer(device, config);
    const { weight } = trainer.model.params.transformer.adapter!;
    device.write(weight, Float32Array.of(Number.NaN));
    const before = weightsOf(trainer);
    await expect(trainer.train()).rejects.toThrow(DivergedError);
    expect(weightsOf(trainer)).toEqual(before);
    expect(trainer.step).toBe(0);
    trainer.dispose();
  });

  it('refuses to go on as another run', async () => {
    const first = new Trainer(device, config);
    const file = await open(await saved(first));
    const other = new Trainer(device, { ...config, seed: 5, microBatch: 9 });
    await expect(resumeTraining(file, other)).rejects.toThrow(/another seed, microBatch/);
    const longer = new Trainer(device, { ...config, steps: 500 });
    await resumeTraining(file, longer);
    const plain = await open(await encodeSafetensors([]));
    await expect(resumeTraining(plain, longer)).rejects.toThrow(ResumeError);
    for (const trainer of [first, other, longer]) trainer.dispose();
  });

  it.each([
    ['step', undefined, /"step" of the saved run must be a whole number; got undefined/],
    ['step', '-1', /"step" of the saved run must be a whole number; got -1/],
    ['tokens', '1e400', /"tokens" of the saved run/],
    ['tokens', 'many', /"tokens" of the saved run is not JSON/],
    ['config', '{', /"config" of the saved run is not JSON/],
    ['curriculum', undefined, /"curriculum" of the saved run does not fit its tasks/],
    ['curriculum', '{"level":[9],"loss":[2]}', /does not fit its tasks/],
    ['curriculum', '{"level":[1],"loss":[2,2]}', /does not fit its tasks/],
  ])('refuses a file whose %s is %s, and leaves the trainer as it was', async (name, value, message) => {
    const run = { ...config, curriculum: { solved: 1, focus: 0.5 } };
    const [first, second] = [new Trainer(device, run), new Trainer(device, run)];
    await first.train();
    const file = await open(await saved(first));
    const metadata = new Map(file.metadata);
    if (value === undefined) metadata.delete(name);
    else metadata.set(name, value);
    const before = [weightsOf(second), second.step, second.tokens, second.curriculum];
    const damaged = { ...file, metadata, entries: file.entries, read: (tensor: string) => file.read(tensor) } as typeof file;
    const resumed = resumeTraining(damaged, second);
    await expect(resumed).rejects.toThrow(ResumeError);
    await expect(resumed).rejects.toThrow(message);
    expect([weightsOf(second), second.step, second.tokens, second.curriculum]).toEqual(before);
    for (const trainer of [first, second]) trainer.dispose();
  });
});

describe('a variant', () => {
  const half: Objective = {
    name: 'half',
    losses(model, batch, options) {
      const crossEntropy = tokenLosses(model, batch, options);
      return { minimised: affine(crossEntropy, { scale: 0.5 }), crossEntropy };
    },
  };
  const damped: ModelFamily = {
    ...sandwich,
    name: 'damped',
    parts: { inject: (model, state, e) => affine(concatInjection(model, state, e), { scale: 0.5 }) },
  };

  it('is trained on what its objective says, and reported by its cross-entropy', async () => {
    const [plain, other] = [new Trainer(device, config), new Trainer(device, config, { objective: half })];
    const [a, b] = [await plain.train(), await other.train()];
    expect(b.loss / a.loss).toBeCloseTo(0.5, 5);
    expect(b.gradNorm / a.gradNorm).toBeCloseTo(0.5, 5);
    expect(b.tasks).toEqual(a.tasks);
    for (const trainer of [plain, other]) trainer.dispose();
  });

  it('is trained with its own parts, saved, and loaded with them', async () => {
    const trainer = new Trainer(device, config, { family: damped });
    const plain = new Trainer(device, config);
    expect((await trainer.train()).loss).not.toBe((await plain.train()).loss);
    const sink = bytesSink();
    await saveModel(sink, trainer.model);
    const weights = await open(sink.bytes());
    const model = await loadRecurrentModel({ device, config: config.model, weights, family: damped });
    const logits = (of: typeof model) => {
      const tensor = forward(of, [[1, 2, 3]], { recurrences: 2 });
      const data = device.readSync(tensor);
      tensor.dispose();
      return data;
    };
    expect(logits(model)).toEqual(logits(trainer.model));
    for (const owner of [trainer, plain, model]) owner.dispose();
  });

  it('goes on with its own family and objective alone', async () => {
    const first = new Trainer(device, config, { family: damped, objective: half });
    const file = await open(await saved(first));
    const [otherFamily, otherLoss, same] = [
      new Trainer(device, config, { objective: half }),
      new Trainer(device, config, { family: damped }),
      new Trainer(device, config, { family: damped, objective: half }),
    ];
    await expect(resumeTraining(file, otherFamily)).rejects.toThrow('the saved run has the family "damped"; the trainer has "sandwich"');
    await expect(resumeTraining(file, otherLoss)).rejects.toThrow(
      'the saved run has the objective "half"; the trainer has "cross-entropy"',
    );
    await resumeTraining(file, same);
    expect(() => new Trainer(device, config, { loss: half } as never)).toThrow('unknown option "loss"');
    for (const trainer of [first, otherFamily, otherLoss, same]) trainer.dispose();
  });
});

describe('measurements', () => {
  it('of states: collapse, change and size', () => {
    const same = Float32Array.from([1, 2, 4, 1, 2, 4, 1, 2, 4]);
    expect(stateMetrics(same, same, 3)).toEqual({ correlation: expect.closeTo(1, 5), change: 0, norm: expect.closeTo(Math.sqrt(21), 5) });
    const opposite = Float32Array.from([1, -1, -1, 1]);
    expect(stateMetrics(opposite, new Float32Array(4), 2)).toEqual({
      correlation: expect.closeTo(-1, 5),
      change: 1,
      norm: expect.closeTo(Math.SQRT2, 5),
    });
  });

  it('of a model, on held-out problems', async () => {
    const trainer = new Trainer(device, config);
    const batch = trainer.validation(6);
    const other = new Trainer(device, { ...config, seed: 9 });
    expect(batch).toEqual(other.validation(6));
    other.dispose();
    const losses = await lossByDepth(trainer.model, batch, [1, 3]);
    expect(losses.map(({ depth }) => depth)).toEqual([1, 3]);
    for (const { loss } of losses) expect(Math.abs(loss - Math.log(24))).toBeLessThan(1);
    const states = await measureStates(trainer.model, batch, 3);
    expect(states.norm).toBeGreaterThan(1);
    expect(states.change).toBeGreaterThan(0);
    trainer.dispose();
  });
});

it('answers counted in one pass are those of greedy decoding, at each depth', async () => {
  const trainer = new Trainer(device, { ...config, tasks: [{ task: 'parity', weight: 1, levels: [6, 7] }] });
  await steps(trainer, 30);
  const problems = drawHeldOut(trainer.config.tasks, 3, 24);
  const solved = await solvedByDepth(
    trainer.model,
    packProblems(
      problems.map((problem) => [problem]),
      32,
    ),
    [1, 4],
  );
  for (const [at, recurrences] of [1, 4].entries()) {
    const decoded = problems.map(({ prompt, answer }) => {
      const tokens = encodeText(prompt);
      for (let i = 0; i <= answer.length; i++) {
        const logits = forward(trainer.model, [tokens], { recurrences, initialState: { scale: 0 } });
        const last = [...(device.readSync(logits) as Float32Array)].slice(-24);
        tokens.push(last.indexOf(Math.max(...last)));
        logits.dispose();
      }
      return tokens.slice(-answer.length - 1).join() === [...encodeText(answer), endToken].join();
    });
    expect(solved[at]).toEqual(decoded);
  }
  expect(new Set(solved.flat()).size).toBe(2);
  trainer.dispose();
});

describe('the config', () => {
  it('is checked', () => {
    expect(parseTrainingConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
    expect(() => parseTrainingConfig({ ...config, batch: 3 })).toThrow('unknown option "batch"');
    expect(() => parseTrainingConfig({ ...config, seed: undefined })).toThrow('"seed" is missing');
    expect(() => parseTrainingConfig({ ...config, model: { ...config.model, vocab_size: 30 } })).toThrow(
      'are written in 24 tokens; model.vocab_size is 30',
    );
    expect(() => parseTrainingConfig({ ...config, optimizer: { name: 'sgd' } })).toThrow('optimizer.name must be one of');
    expect(() => parseTrainingConfig([])).toThrow('must be one JSON object');
  });
});

describe('where the device refuses memory', () => {
  const tiny: TrainingConfig = {
    ...config,
    model: { ...config.model, n_embd: 8, intermediate_size: 12, block_size: 16 },
    tasks: [{ task: 'addition', weight: 1, levels: [1, 3] }],
    microBatch: 1,
    depth: { kind: 'fixed', mean: 2, gradient: 1 },
    ema: 0.9,
  };

  it('a trainer that cannot be made, or a step that cannot be taken, leaves nothing behind', async () => {
    const leaks = await findLeaks(
      device,
      async () => {
        const trainer = new Trainer(device, tiny);
        try {
          await trainer.train();
        } finally {
          trainer.dispose();
        }
      },
      300,
    );
    expect(leaks).toEqual([]);
  });

  it('measuring leaves nothing behind', async () => {
    const trainer = new Trainer(device, tiny);
    const problems = packProblems(
      drawHeldOut(tiny.tasks, 0, 2).map((problem) => [problem]),
      16,
    );
    const leaks = await findLeaks(device, async () => {
      await lossByDepth(trainer.model, problems.data, [1]);
      await measureStates(trainer.model, problems.data, 2);
      await solvedByDepth(trainer.model, problems, [1]);
    });
    expect(leaks).toEqual([]);
    trainer.dispose();
  });
});
