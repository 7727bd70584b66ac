import { createCpuDevice } from '@unroll/tensor/cpu';
import { advance, beginCurriculum, checkCurriculum, drawFamilies, Trainer, type TrainingConfig, weightScale } from '@unroll/train';
import { expect, it } from 'vitest';

const config = { solved: 0.5, focus: 0.3, decay: 0.5 };

it('goes up a level when the average of what was measured there says solved, each task by itself, to its highest', () => {
  let state = beginCurriculum([1, 6]);
  expect(state.level).toEqual([1, 6]);
  state = advance(config, state, [0, undefined], [3, 8]);
  expect(state.level).toEqual([1, 6]);
  state = advance(config, state, [0, undefined], [3, 8]);
  expect(state.level).toEqual([1, 6]);
  state = advance(config, state, [0, 0.1], [3, 8]);
  // 2 halved three times is 0.25; the other task was measured once.
  expect(state.level).toEqual([2, 6]);
  // A level has to earn its average anew.
  expect(state.loss[0]).toBeGreaterThan(config.solved);
  for (let i = 0; i < 20; i++) state = advance(config, state, [0, 5], [3, 8]);
  expect(state.level).toEqual([3, 6]);
});

it('lets a task whose last level is solved rest', () => {
  const scale = weightScale({ ...config, rest: 0.25 }, { level: [3, 8, 8], loss: [0.1, 0.1, 0.9] }, [4, 8, 8]);
  expect(scale).toEqual([1, 0.25, 1]);
  const mixture = ['parity', 'addition'].map((task) => ({ task, weight: 1, levels: [1, 8] as const }));
  const drawn = drawFamilies(mixture, 1, 0, 600, { level: [8, 8], focus: 0.5, scale: [0.25, 1] });
  expect(Math.abs(drawn.filter(({ share }) => share === 0).length / 600 - 0.2)).toBeLessThan(0.06);
});

it('is checked', () => {
  expect(() => checkCurriculum({ ...config, speed: 1 } as never, [])).toThrow('unknown option "speed"');
  expect(() => checkCurriculum({ ...config, solved: 0 }, [])).toThrow('solved must be');
  expect(() => checkCurriculum({ ...config, focus: 2 }, [])).toThrow('focus must be');
  expect(() => checkCurriculum({ ...config, rest: 0 }, [])).toThrow('rest must be');
  expect(() => checkCurriculum({ ...config, decay: 1 }, [])).toThrow('decay must be');
  const shares = ['parity', 'addition'].map((task) => ({ task, weight: 1, levels: [1, 8] as const }));
  const plan =
    (...entries: (readonly [number, number[]])[]) =>
    () =>
      checkCurriculum({ ...config, plan: entries.map(([step, level]) => ({ step, level })) }, shares);
  expect(plan([1, [1, 1]], [9, [2, 8]])).not.toThrow();
  expect(plan([2, [1, 1]])).toThrow('begins with step 1');
  expect(plan([1, [1, 1]], [1, [2, 1]])).toThrow('that rise; got 1 at place 1');
  expect(plan([1, [1, 9]])).toThrow('a level of each task; got 1, 9');
  expect(plan([1, [1]])).toThrow('a level of each task; got 1');
  expect(() => checkCurriculum({ ...config, rest: 0.5, plan: [{ step: 1, level: [1, 1] }] }, shares)).toThrow('leave out rest');
});

const tiny = {
  model: {
    n_embd: 16,
    num_attention_heads: 2,
    intermediate_size: 24,
    vocab_size: 24,
    block_size: 32,
    n_layers_in_prelude: 1,
    n_layers_in_recurrent_block: 1,
    n_layers_in_coda: 1,
    mean_recurrence: 2,
    mean_backprop_depth: 1,
    norm_eps: 1e-6,
    tie_embeddings: true,
    qk_bias: true,
  },
  seed: 3,
  steps: 20,
  tasks: ['parity', 'chain'].map((task) => ({ task, weight: 1, levels: [1, 6] as const })),
  // Met by any model: levels rise whenever a step is deep enough.
  curriculum: { solved: 10, focus: 0.5 },
  microBatch: 4,
  depth: { kind: 'lognormal-poisson', mean: 2, gradient: 1 },
  schedule: { kind: 'warmup-constant', peak: 0.003, warmup: 1 },
  optimizer: { name: 'adamw' },
} as const;

it('shows another model the very problems of a run, by the levels that the run has logged', async () => {
  const device = createCpuDevice();
  const run = async (config: TrainingConfig) => {
    const trainer = new Trainer(device, config);
    const seen: unknown[] = [];
    const levels: number[][] = [];
    while (trainer.step < config.steps) {
      seen.push(trainer.families(trainer.step + 1));
      levels.push(Object.values((await trainer.train()).levels!));
    }
    trainer.dispose();
    return { seen, levels };
  };
  const first = await run(tiny);
  const plan = first.levels.flatMap((level, i) => (String(level) === String(first.levels[i - 1]) ? [] : [{ step: i + 1, level }]));
  expect(plan.length).toBeGreaterThan(3);
  const { curriculum, ...rest } = tiny;
  // A model that learns nothing of what takes levels up.
  const other = await run({ ...rest, depth: { kind: 'fixed', mean: 1, gradient: 1 }, curriculum: { ...curriculum, solved: 0.001, plan } });
  expect(other).toEqual(first);
  device.dispose();
});
