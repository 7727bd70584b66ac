import { expect, it } from 'vitest';
import { unroll } from './support.js';

it('shows depth at work without arguments', async () => {
  const { code, out, err } = await unroll([]);
  expect([code, err]).toEqual([0, '']);
  expect(out).not.toContain('\u001b');
  expect(out.replace(/\(\d+\.\d s\)/, '(TIME)')).toMatchSnapshot();
}, 60_000);
