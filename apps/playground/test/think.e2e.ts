import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CLI } from '../../../tooling/scripts/lib/stamp.mjs';
import { answerOf, lastRun, metricOf, type Playground, runBoth, startPlayground } from './support.js';

let playground: Playground;
beforeAll(async () => {
  playground = await startPlayground();
});
afterAll(() => playground.close());

const PROMPT = '69862+90145=';

/** What the command line program answers. */
async function cli(depth: number): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    CLI.main,
    'generate',
    PROMPT,
    '--model',
    'adder',
    '--depth',
    String(depth),
  ]);
  return stdout.trim().replace(PROMPT, '');
}

test('the page loads a model by itself, asks it something, and shallow and deep answers differ', async () => {
  const { page, complaints, context } = await playground.open();
  expect(await answerOf(page, 'A')).not.toBe(await answerOf(page, 'B'));
  expect(await page.locator('section[aria-label="Pane B"] .verdict').textContent()).toContain('right');
  expect(await page.locator('section[aria-label="Pane A"] .verdict').textContent()).toContain('it is');
  // It asked once, although it also chose a depth for B, and a depth that changes asks again.
  expect(await lastRun(page)).toBe(1);
  await runBoth(page);
  expect(await lastRun(page)).toBe(2);
  expect(complaints).toEqual([]);
  await context.close();
});

test.each(['cpu', 'webgpu'])('greedy text on %s is the command line program’s', async (device) => {
  const { page, complaints, context } = await playground.open(
    `?model=adder&device=${device}&prompt=${encodeURIComponent(PROMPT)}&a.depth=1&b.depth=4`,
  );
  const [shallow, deep] = [await answerOf(page, 'A'), await answerOf(page, 'B')];
  expect([shallow, deep]).toEqual([await cli(1), await cli(4)]);
  expect(shallow).not.toBe(deep);
  await page.getByRole('button', { name: device === 'cpu' ? /^CPU/ : /^WebGPU/ }).click();
  await expect(page.locator('.facts').textContent()).resolves.toContain(device === 'cpu' ? 'you chose the CPU' : 'you chose WebGPU');
  expect(complaints).toEqual([]);
  await context.close();
});

test('turning the dial by keys changes the answer and the work', async () => {
  const { page, context } = await playground.open(`?model=adder&prompt=${encodeURIComponent(PROMPT)}&a.depth=1&b.depth=8`);
  const before = await answerOf(page, 'A');
  await answerOf(page, 'B');
  const passes = await metricOf(page, 'A', 'core passes');
  const ran = await lastRun(page);
  const dial = page.getByRole('slider', { name: 'Pane A: depth' });
  await dial.press('PageUp');
  await dial.press('PageUp');
  await dial.press('PageUp');
  await page.waitForFunction(() => document.querySelector('section[aria-label="Pane A"] .token-depth')?.textContent === '8');
  const after = await answerOf(page, 'A', ran);
  expect(after).not.toBe(before);
  expect(after).toBe(await answerOf(page, 'B'));
  expect(await metricOf(page, 'A', 'core passes')).toBe(8 * passes);
  await page.waitForURL(/a\.depth=8/);
  await context.close();
});
