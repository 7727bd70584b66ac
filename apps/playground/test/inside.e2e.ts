import { bytesSource, openSafetensors } from '@unroll/checkpoint';
import { loadEmbedded } from '@unroll/pretrained';
import { loadRecurrentModel } from '@unroll/recurrent';
import { trace } from '@unroll/sampler';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { parseTokenizer } from '@unroll/tokenizer';
import type { Page } from 'playwright';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { relativeChange } from '../src/worker/motion.js';
import { answerOf, lastRun, metricOf, type Playground, patiently, runBoth, startPlayground } from './support.js';

let playground: Playground;
beforeAll(async () => {
  playground = await startPlayground();
});
afterAll(() => playground.close());

const PROMPT = '69862+90145=';
const ANSWER = '160007';
const DEPTH = 8;
const ask = (more = '') => `?model=adder&device=cpu&prompt=${encodeURIComponent(PROMPT)}&b.depth=${DEPTH}${more}`;

/** The states of the same text, computed here. */
async function traceHere() {
  const device = createCpuDevice({ threads: 1 });
  const { config, tokenizer: json, tokenizerConfig, generationConfig, weights } = await loadEmbedded('adder');
  const tokenizer = parseTokenizer({ tokenizer: json, config: tokenizerConfig, generationConfig });
  const model = await loadRecurrentModel({ device, config, weights: await openSafetensors(bytesSource(weights)) });
  const result = await trace({ model, tokenizer, prompt: PROMPT + ANSWER, recurrences: DEPTH, record: 'state', top: 5 });
  model.dispose();
  device.dispose();
  return result;
}

/** Colour at a place of a canvas, and how bright it is. */
async function pixel(page: Page, canvas: string, x: number, y: number): Promise<number> {
  return page.locator(canvas).evaluate(
    (element, [px, py]) => {
      const surface = element as HTMLCanvasElement;
      const scale = surface.width / surface.clientWidth;
      const [r, g, b] = surface.getContext('2d')!.getImageData(px! * scale, py! * scale, 1, 1).data;
      return 0.3 * r! + 0.59 * g! + 0.11 * b!;
    },
    [x, y],
  );
}

test('the heat map shows the relative change of every position and recurrence, in numbers and in pixels', async () => {
  const { page, context } = await playground.open(ask('&inside=settling'));
  await page.locator('canvas.heat').waitFor();
  const { states, width, tokens } = await traceHere();
  const T = tokens.length;
  const change = relativeChange(states, DEPTH, T, width);
  const box = (await page.locator('canvas.heat').boundingBox())!;
  const at = (t: number, i: number): [number, number] => [
    46 + ((t + 0.5) * (box.width - 46)) / T,
    4 + ((i + 0.5) * (box.height - 38)) / DEPTH,
  ];
  // A canvas is drawn a frame after it is there.
  await expect.poll(() => pixel(page, 'canvas.heat', ...at(0, 0)), patiently).toBeGreaterThan(0);
  const seen: { value: number; light: number }[] = [];
  for (const [t, i] of [
    [0, 0],
    [3, 2],
    [8, 4],
    [T - 4, 5],
    [T - 1, 7],
    [0, 7],
  ] as const) {
    const [x, y] = at(t, i);
    await page.locator('canvas.heat').hover({ position: { x, y } });
    const text = (await page.locator('.pointed', { hasText: `position ${t}), recurrence ${i + 1}:` }).textContent())!;
    const value = Number(/moved by ([\d.e+-]+)/.exec(text)![1]);
    expect(Math.abs(value / change[i * T + t]! - 1)).toBeLessThan(0.06);
    seen.push({ value, light: await pixel(page, 'canvas.heat', x, y) });
  }
  // What moves more is lighter.
  const byValue = [...seen].sort((a, b) => a.value - b.value).map(({ light }) => light);
  expect(byValue).toEqual([...byValue].sort((a, b) => a - b));
  expect(byValue.at(-1)! - byValue[0]!).toBeGreaterThan(100);
  await context.close();
});

test('trajectories: a path for each chosen position and initial state, ends that agree, and pixels of their colours', async () => {
  const { page, context } = await playground.open(ask('&inside=paths'));
  await page.getByText(/of the variance/).waitFor();
  const colours = () =>
    page.locator('canvas.trajectories').evaluate((element) => {
      const surface = element as HTMLCanvasElement;
      const { data } = surface.getContext('2d')!.getImageData(0, 0, surface.width, surface.height);
      // Full strength: the dots of the last recurrence.
      const counts = { first: 0, second: 0, fifth: 0 };
      for (let i = 0; i < data.length; i += 4) {
        const is = (r: number, g: number, b: number) =>
          Math.abs(data[i]! - r) + Math.abs(data[i + 1]! - g) + Math.abs(data[i + 2]! - b) < 60;
        if (is(0x26, 0xb2, 0xbe)) counts.first++;
        else if (is(0xff, 0x70, 0x43)) counts.second++;
        else if (is(0xaa, 0x62, 0xf0)) counts.fifth++;
      }
      return counts;
    });
  await expect.poll(async () => Math.min(...Object.values(await colours())), patiently).toBeGreaterThan(60);
  const rows = await page.locator('.paths-side tbody tr').allTextContents();
  expect(rows.length).toBe(ANSWER.length + 1);
  expect(rows[0]).toContain('fixed point');
  const spread = Number(/([\d.e+-]+)$/.exec(rows[0]!)![1]);
  expect(spread).toBeGreaterThan(0);
  expect(spread).toBeLessThan(0.01);
  // One position alone: the other colours go.
  for (const pressed of (await page.locator('.position-picker [aria-pressed="true"]').all()).slice(1).reverse()) await pressed.click();
  await page.waitForFunction(() => document.querySelectorAll('.paths-side tbody tr').length === 1);
  await expect.poll(async () => (await colours()).fifth, patiently).toBe(0);
  expect((await colours()).first).toBeGreaterThan(60);
  await context.close();
});

test('a token’s card has what every recurrence would have said', async () => {
  const { page, context } = await playground.open(ask());
  await answerOf(page, 'B');
  await page.locator('.evolution').waitFor();
  const { top } = await traceHere();
  const device = await loadEmbedded('adder');
  const tokenizer = parseTokenizer({ tokenizer: device.tokenizer });
  await page.locator('section[aria-label="Pane B"] .token').nth(2).hover();
  const rows = page.locator('.token-card tbody tr');
  await expect.poll(() => rows.count(), patiently).toBe(DEPTH);
  for (const depth of [1, 2, 8]) {
    const shown = await rows
      .nth(depth - 1)
      .locator('td b')
      .allTextContents();
    const expected = top[depth - 1]![PROMPT.length + 1]!.map(({ token }) => tokenizer.decode([token]).replace('\n', '⏎'));
    expect(shown).toEqual(expected);
  }
  expect(await page.locator('.token-card .alternative').count()).toBe(5);
  await page.mouse.move(5, 5);
  await page.locator('.token-card').waitFor({ state: 'detached' });
  await context.close();
});

test('an adaptive run stops tokens by themselves, with curve and histogram; a speculative run says the same in fewer passes', async () => {
  const { page, context } = await playground.open(
    `${ask()}&a.depth=32&a.strategy=adaptive&a.exit=latent-diff&b.depth=32&b.strategy=speculative&b.draft=4`,
  );
  expect(await answerOf(page, 'A')).toBe(ANSWER);
  expect(await answerOf(page, 'B')).toBe(ANSWER);
  const depths = (await page.locator('section[aria-label="Pane A"] .token-depth').allTextContents()).map(Number);
  expect(Math.max(...depths)).toBeLessThan(32);
  expect(new Set(depths).size).toBeGreaterThan(1);
  expect(await metricOf(page, 'A', 'mean depth')).toBeCloseTo(depths.reduce((sum, x) => sum + x, 0) / depths.length, 1);
  expect(await metricOf(page, 'B', 'core passes')).toBeLessThan(32 * (ANSWER.length + 1));
  expect(await page.locator('section[aria-label="Pane B"] .pane-note').textContent()).toMatch(/\d+ of \d+ drafts accepted/);
  await page.locator('.inside-head').getByRole('button', { name: 'A', exact: true }).click();
  await expect.poll(() => page.locator('.histogram .column').count(), patiently).toBe(new Set(depths).size);
  expect(await page.locator('.histogram figcaption').textContent()).toMatch(/recurrences saved/);
  await page.locator('section[aria-label="Pane A"] .token').first().click();
  await expect.poll(() => page.locator('.token-card .exit-curve circle').count(), patiently).toBe(depths[0]);
  await context.close();
});

test('the wavefront view draws a window that slides, and what cannot be combined is refused in words', async () => {
  const { page, context } = await playground.open(ask('&inside=wavefront'));
  await page.getByRole('button', { name: 'Run B as a wavefront' }).click();
  const label = (await page.locator('canvas.wavefront').getAttribute('aria-label'))!;
  const [, rounds, positions] = /Wavefront: (\d+) rounds over (\d+) positions/.exec(label)!.map(Number);
  expect(rounds).toBeGreaterThan(3);
  expect(positions).toBeGreaterThanOrEqual(ANSWER.length);
  const box = (await page.locator('canvas.wavefront').boundingBox())!;
  const row = (box.height - 30) / rounds!;
  const cell = (box.width - 46) / positions!;
  // The first round has its first cell alone; by the last round that cell is frozen, which is paler.
  await expect.poll(() => pixel(page, 'canvas.wavefront', 46 + cell * 0.15, row * 0.5), patiently).toBeGreaterThan(60);
  expect(await pixel(page, 'canvas.wavefront', 46 + cell * 1.15, row * 0.5)).toBe(0);
  await page.locator('section[aria-label="Pane B"] details.more > summary').click();
  await page.locator('section[aria-label="Pane B"]').getByLabel('KV policy').selectOption('full');
  expect(await page.locator('section[aria-label="Pane B"] [role="alert"]').textContent()).toContain('policy');
  await context.close();
});

test('stop ends a run, and the next one works', async () => {
  // The model continues a 7 with sevens until it may not.
  const most = 50;
  const { page, context } = await playground.open(`?model=adder&device=webgpu&a.depth=64&b.depth=64&prompt=7&maxNewTokens=${most}`);
  await page.locator('section[aria-label="Pane A"] .token').first().waitFor();
  await page.getByRole('button', { name: 'Stop', exact: true }).click();
  for (const pane of ['A', 'B']) await page.locator(`section[aria-label="Pane ${pane}"][data-status="stopped"]`).waitFor();
  const shown = await page.locator('section[aria-label="Pane A"] .token').count();
  expect(shown).toBeLessThan(most);
  // Counts come with the tokens, not at the end alone. A step more may have begun.
  const passes = await metricOf(page, 'A', 'core passes');
  expect(passes % 64).toBe(0);
  expect(passes / 64 - shown).toBeGreaterThanOrEqual(0);
  expect(passes / 64 - shown).toBeLessThanOrEqual(1);
  expect(await metricOf(page, 'A', 'KV cache')).toBeGreaterThan(0);
  const before = await lastRun(page);
  await page.getByRole('slider', { name: 'Pane B: depth' }).press('Home');
  expect(await answerOf(page, 'B', before)).toBe('7'.repeat(most));
  await context.close();
});

test('panes with the same settings and seed draw the same sampled text; another seed draws another', async () => {
  const { page, context } = await playground.open(`${ask()}&temperature=3&seed=5&a.depth=4&b.depth=4`);
  const first = await answerOf(page, 'A');
  expect(await answerOf(page, 'B')).toBe(first);
  await page.locator('.ask details.more > summary').click();
  await page.getByLabel('Seed').fill('6');
  const [second, twin] = await runBoth(page);
  expect(second).toBe(twin);
  expect(second).not.toBe(first);
  await context.close();
});

test('interventions: a fork is the same thought, noise moves it, and it comes back; a swapped prompt changes the answer', async () => {
  const { page, context, complaints } = await playground.open(ask('&view=lab'));
  await page.getByRole('button', { name: /^adder/ }).waitFor();
  await page.getByLabel('Prompt', { exact: true }).fill('12+30=');
  await page.getByRole('button', { name: 'New thought' }).click();
  const thought = (name: string) => page.locator(`section[aria-label="Thought ${name}"]`);
  const rows = async (name: string) => (await thought(name).locator('tbody tr').allTextContents()).map((text) => text.trim());
  await thought('A').getByRole('button', { name: 'Run to loop 4' }).click();
  await thought('A').getByText('after loop 4').waitFor();
  await thought('A').getByRole('button', { name: 'Fork' }).click();
  await thought('B').getByText('after loop 4').waitFor();
  expect(await rows('B')).toEqual(await rows('A'));
  await thought('B').getByRole('button', { name: 'Add noise here' }).click();
  await page.getByLabel('Pause at loop').fill('16');
  for (const name of ['A', 'B']) {
    await thought(name).getByRole('button', { name: 'Run to loop 16' }).click();
    await thought(name).getByText('after loop 16').waitFor();
  }
  const [plain, noisy] = [await rows('A'), await rows('B')];
  expect(noisy.slice(0, 4)).toEqual(plain.slice(0, 4));
  const change = (text: string) => Number(/Δ ([\d.e+-]+)/.exec(text)![1]);
  expect(change(noisy[4]!)).toBeGreaterThan(5 * change(plain[4]!));
  expect(change(noisy[15]!)).toBeLessThan(0.01);
  await thought('A')
    .getByLabel(/Another prompt of 6 tokens/)
    .fill('12+40=');
  await thought('A').getByRole('button', { name: 'Swap the injected prompt' }).click();
  await page.getByLabel('Pause at loop').fill('32');
  await thought('A').getByRole('button', { name: 'Run to loop 32' }).click();
  await thought('A').getByText('after loop 32').waitFor();
  expect((await rows('A'))[31]).toMatch(/^32\s*5/);
  expect(noisy[15]).toMatch(/^16\s*4/);
  await thought('B').getByRole('button', { name: 'Whole answer' }).click();
  await thought('B').getByText('✓ right').waitFor();
  await thought('A').getByRole('button', { name: 'Whole answer' }).click();
  // The swapped prompt asks for 12 + 40.
  await thought('A').locator('.lab-answer b', { hasText: /^52$/ }).waitFor();
  await thought('A').getByRole('button', { name: 'Close' }).click();
  await expect.poll(() => page.locator('.thought').count(), patiently).toBe(1);
  expect(complaints).toEqual([]);
  await context.close();
});
