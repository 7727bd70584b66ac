import { expect, it, vi } from 'vitest';

it('the composition of the README answers', async () => {
  vi.spyOn(console, 'log').mockImplementation(() => {});
  const { answer, device } = await import('../examples/compose.js');
  expect(answer).toBe('825');
  expect(device.memory().buffers).toBe(0);
});

it('every strategy of the README answers', async () => {
  vi.spyOn(console, 'log').mockImplementation(() => {});
  const { answers, device } = await import('../examples/strategies.js');
  expect(answers).toEqual(new Array(5).fill('825'));
  expect(device.memory().buffers).toBe(0);
});
