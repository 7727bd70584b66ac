import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Page } from 'playwright';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PLAYGROUND } from '../../../tooling/scripts/lib/stamp.mjs';
import { answerOf, lastRun, type Playground, patiently, runBoth, startPlayground } from './support.js';

let playground: Playground;
beforeAll(async () => {
  playground = await startPlayground();
});
afterAll(() => playground.close());

const VIEWS = ['Think', 'Chat', 'Intervene', 'Train', 'Models', 'Device'];
const INSIDES = ['Depth', 'Settling', 'Trajectories', 'Wavefront', 'Memory'];
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** Every view in turn, each in a state worth looking at. */
async function visit(page: Page, look: (name: string) => Promise<void>): Promise<void> {
  await answerOf(page, 'B');
  for (const name of INSIDES) {
    await page.getByRole('button', { name, exact: true }).click();
    await look(`Think, ${name}`);
  }
  await page.locator('details.more > summary').first().click();
  await page.locator('section[aria-label="Pane B"] .token').first().click();
  await look('Think with a card');
  for (const name of VIEWS.slice(1)) {
    await page.locator('nav').getByRole('button', { name, exact: true }).click();
    await page.locator(`main h1, main .chat-log`).first().waitFor();
    if (name === 'Intervene') {
      await page.getByRole('button', { name: 'New thought' }).click();
      await page.getByRole('button', { name: 'Run to loop 4' }).click();
      await page.locator('.lab-rows tr').nth(3).waitFor();
    }
    await look(name);
  }
}

interface AxeResult {
  readonly violations: readonly { readonly id: string; readonly impact: string; readonly nodes: readonly { readonly html: string }[] }[];
}

test.each(['light', 'dark'] as const)('no serious accessibility violations, %s', async (colorScheme) => {
  const { page, context, complaints } = await playground.open('', { colorScheme });
  await page.addScriptTag({ path: AXE });
  const found: string[] = [];
  await visit(page, async (name) => {
    // Colours alone differ from theme to theme.
    const only = colorScheme === 'light' ? '' : ', runOnly: ["color-contrast"]';
    const { violations } = (await page.evaluate(`axe.run(document, { resultTypes: ["violations"]${only} })`)) as AxeResult;
    const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    for (const { id, nodes } of grave)
      found.push(
        `${name}: ${id}: ${nodes
          .map(({ html }) => html)
          .join(' | ')
          .slice(0, 300)}`,
      );
  });
  expect(found).toEqual([]);
  expect(complaints).toEqual([]);
  await context.close();
});

test('the theme button changes the page and what is drawn on it, and the choice stays', async () => {
  const { page, context } = await playground.open('?inside=settling', { colorScheme: 'light' });
  await page.locator('canvas.heat').waitFor();
  /** Brightness of the page, and of the darkest and the brightest text beside the heat map. */
  const look = () =>
    page.evaluate(() => {
      const bright = ([r, g, b]: readonly number[]) => Math.round((r! + g! + b!) / 3);
      const canvas = document.querySelector<HTMLCanvasElement>('canvas.heat')!;
      const { data } = canvas.getContext('2d')!.getImageData(0, 0, 40, canvas.height);
      const text: number[] = [];
      for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) text.push(bright([...data.slice(i, i + 3)]));
      const page = bright((getComputedStyle(document.body).backgroundColor.match(/\d+/g) ?? []).map(Number));
      return [page, Math.min(...text), Math.max(...text)];
    });
  const [light, dark] = [
    [245, 101, 101],
    [19, 169, 169],
  ];
  await expect.poll(look, patiently).toEqual(light);
  const button = page.getByRole('button', { name: /^Theme/ });
  for (const [name, expected] of [
    ['light', light],
    ['dark', dark],
    ['system', light],
    ['light', light],
    ['dark', dark],
  ] as const) {
    await button.click();
    await page.getByRole('button', { name: `Theme: ${name}; change it` }).waitFor();
    await expect.poll(look, patiently).toEqual(expected);
  }
  await page.reload();
  await page.locator('canvas.heat').waitFor();
  await expect.poll(look, patiently).toEqual(dark);
  await context.close();
});

test('no view scrolls sideways on a phone', async () => {
  const { page, context } = await playground.open('', { viewport: { width: 375, height: 720 }, hasTouch: true, isMobile: true });
  const wide: string[] = [];
  await visit(page, async (name) => {
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (over > 0) wide.push(`${name}: ${over} px`);
  });
  expect(wide).toEqual([]);
  await context.close();
});

test('on a phone the first screen has the question, one row of examples, and the dial', async () => {
  const { page, context } = await playground.open('', { viewport: { width: 375, height: 720 }, hasTouch: true, isMobile: true });
  await answerOf(page, 'B');
  const bottomOf = async (selector: string) => {
    const box = (await page.locator(selector).first().boundingBox())!;
    return box.y + box.height;
  };
  expect(await page.locator('.chip').count()).toBeGreaterThan(8);
  const rows = await page.locator('.chip').evaluateAll((all) => new Set(all.map((chip) => chip.getBoundingClientRect().top)).size);
  expect(rows).toBe(1);
  expect(await bottomOf('#prompt')).toBeLessThan(await bottomOf('.chips'));
  expect(await bottomOf('section[aria-label="Pane A"] .dial')).toBeLessThan(720);
  await context.close();
});

test('nothing shifts while an answer streams', async () => {
  const { page, context } = await playground.open(`?model=adder&prompt=${encodeURIComponent('69862+90145=')}`);
  await answerOf(page, 'B');
  await page.evaluate(() => {
    const shifts: number[] = [];
    const take = (list: readonly PerformanceEntry[]) =>
      shifts.push(...list.map((entry) => (entry as PerformanceEntry & { value: number }).value));
    const observer = new PerformanceObserver((list) => take(list.getEntries()));
    observer.observe({ type: 'layout-shift' });
    Object.assign(globalThis, { shiftSoFar: () => take(observer.takeRecords()) && shifts.reduce((sum, one) => sum + one, 0) });
  });
  await runBoth(page);
  // What is below the panes is drawn once the answers are recorded, in the frames after the run's end.
  await page.getByRole('button', { name: 'Run', exact: true }).waitFor();
  const total = await page.evaluate(async () => {
    for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
    return (globalThis as unknown as { shiftSoFar(): number }).shiftSoFar();
  });
  expect(total).toBeLessThan(0.01);
  await context.close();
});

test('by keyboard: dial, run, token card, and out of it', async () => {
  const { page, context } = await playground.open(`?model=adder&prompt=${encodeURIComponent('90+19=')}&a.depth=4`);
  await answerOf(page, 'A');
  const before = await lastRun(page);
  const dial = page.getByRole('slider', { name: 'Pane A: depth' });
  await dial.focus();
  for (const [key, depth] of [
    ['ArrowUp', 5],
    ['ArrowLeft', 4],
    ['PageUp', 8],
    ['PageDown', 4],
    ['End', 64],
    ['Home', 1],
  ] as const) {
    await page.keyboard.press(key);
    await expect.poll(() => dial.getAttribute('aria-valuenow'), patiently).toBe(String(depth));
  }
  await page.waitForFunction(() => document.querySelector('section[aria-label="Pane A"] .token-depth')?.textContent === '1');
  await answerOf(page, 'A', before);
  // While something runs the button is disabled, and cannot have the focus.
  await page.getByRole('button', { name: 'Run A', disabled: false }).focus();
  await page.keyboard.press('Tab');
  await page.locator('.token-card').waitFor();
  await expect.poll(() => page.locator('.token-card tr').count(), patiently).toBe(1);
  await page.keyboard.press('Escape');
  await page.locator('.token-card').waitFor({ state: 'detached' });
  await context.close();
});

test('a shared address brings every setting back', async () => {
  const query =
    '?model=adder&inside=memory&prompt=90%2B19%3D&seed=7&temperature=0.7&topK=3&a.depth=5&a.strategy=adaptive&a.exit=kl&a.threshold=0.01&b.strategy=wavefront&b.inner=3&b.depth=12';
  const { page, context } = await playground.open(query);
  await answerOf(page, 'B');
  await page.getByRole('slider', { name: 'Pane A: depth' }).press('ArrowUp');
  await page.waitForURL(/a\.depth=6/);
  expect(Object.fromEntries(new URL(page.url()).searchParams)).toEqual({
    ...Object.fromEntries(new URLSearchParams(query)),
    'a.depth': '6',
  });
  await context.close();
});

test('first load without weights is under 300 kB gzip, and what it does not need is fetched later', async () => {
  const context = await playground.browser.newContext({ serviceWorkers: 'block' });
  const page = await context.newPage();
  const asked: string[] = [];
  context.on('request', (request) => {
    // Not the blobs that threads start from.
    if (request.url().startsWith(playground.url)) asked.push(new URL(request.url()).pathname);
  });
  await page.goto(playground.url);
  await answerOf(page, 'B');
  await context.close();
  const files = [...new Set(asked)].map((path) => (path === '/' ? 'index.html' : path.slice(1)));
  // The page, its worker and the model that the worker opens.
  for (const part of [/^index\.html$/, /\/index-.*\.js$/, /\/index-.*\.css$/, /\/main-.*\.js$/, /reckoner\.generated/, /reckoner-weights/])
    expect(
      files.filter((name) => part.test(name)),
      String(part),
    ).toHaveLength(1);
  for (const later of [/adder/, /\/train-/]) expect(files.filter((name) => later.test(name))).toEqual([]);
  const first = files.filter((name) => !name.includes('-weights'));
  const sizes = first.map((name) => gzipSync(readFileSync(join(dirname(PLAYGROUND.main), name))).length);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(300_000);
});
