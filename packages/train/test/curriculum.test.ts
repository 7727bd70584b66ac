import { advance, beginCurriculum, checkCurriculum, drawFamilies, weightScale } from '@unroll/train';
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
  expect(() => checkCurriculum({ ...config, speed: 1 } as never)).toThrow('unknown option "speed"');
  expect(() => checkCurriculum({ ...config, solved: 0 })).toThrow('solved must be');
  expect(() => checkCurriculum({ ...config, focus: 2 })).toThrow('focus must be');
  expect(() => checkCurriculum({ ...config, rest: 0 })).toThrow('rest must be');
  expect(() => checkCurriculum({ ...config, decay: 1 })).toThrow('decay must be');
});
