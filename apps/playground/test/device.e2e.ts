import { afterAll, beforeAll, expect, test } from 'vitest';
import { CHROMIUM_ARGS } from '../../../tooling/scripts/chromium.mjs';
import { answerOf, lastRun, type Playground, startPlayground } from './support.js';

let playground: Playground;
beforeAll(async () => {
  playground = await startPlayground();
});
afterAll(() => playground.close());

const PROMPT = encodeURIComponent('90+19=');

test('a GPU that is lost comes back, and the answer is the same', async () => {
  const { page, context, complaints } = await playground.open(`?model=adder&device=webgpu&prompt=${PROMPT}&a.depth=2&b.depth=2`);
  await answerOf(page, 'A');
  expect(await answerOf(page, 'B')).toBe('109');
  // The recording behind the answer would meet the loss first.
  await page.locator('.evolution').waitFor();
  await page.getByRole('button', { name: 'Device', exact: true }).click();
  await page.getByRole('button', { name: /Lose the GPU/ }).click();
  await page.getByRole('button', { name: 'Think', exact: true }).click();
  const before = await lastRun(page);
  await page.getByRole('button', { name: 'Run A' }).click();
  await page.getByText('The GPU was lost and came back').waitFor();
  expect(await answerOf(page, 'A', before)).toBe('109');
  expect(complaints).toEqual([]);
  await context.close();
});

test('without WebGPU a link that asks for it says so, with the CPU as a way out', async () => {
  const bare = await startPlayground({ args: CHROMIUM_ARGS.filter((arg) => arg !== '--enable-unsafe-webgpu') });
  try {
    const { page } = await bare.open(`?model=adder&device=webgpu&prompt=${PROMPT}&b.depth=2`);
    expect(await page.getByRole('alert').textContent()).toContain('found no adapter');
    await page.getByRole('button', { name: 'Use the CPU' }).click();
    expect(await answerOf(page, 'B')).toBe('109');
    await page.getByRole('button', { name: /^adder/ }).waitFor();
    await page.getByRole('button', { name: /^CPU/ }).click();
    expect(await page.locator('.facts').textContent()).toMatch(/you chose the CPU.*none found/);
  } finally {
    await bare.close();
  }
});

test('without the headers the page says what is missing, and its service worker sets them from the second load on', async () => {
  const plain = await startPlayground({ isolated: false });
  try {
    const { page } = await plain.open(`?model=adder&prompt=${PROMPT}`, { serviceWorkers: 'allow' });
    await page.getByText('This page is not cross-origin isolated').waitFor();
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => true));
    await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
    await page.getByRole('button', { name: 'Reload' }).click();
    await page.waitForFunction(() => crossOriginIsolated);
    await answerOf(page, 'B');
    expect(await page.getByText('This page is not cross-origin isolated').count()).toBe(0);
  } finally {
    await plain.close();
  }
});

test('after one visit the page works without a network', async () => {
  const own = await startPlayground();
  try {
    const { page, context } = await own.open('', { serviceWorkers: 'allow' });
    const before = await answerOf(page, 'B');
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => true));
    await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
    await context.setOffline(true);
    await page.reload();
    expect(await answerOf(page, 'B')).toBe(before);
  } finally {
    await own.close();
  }
});

test('when the memory is full the page says so, and a new engine has the model that was asked for', async () => {
  const { page, context } = await playground.open('?view=device');
  // The browser gives the next worker no more memory than it begins with.
  let full = true;
  await context.route(/\/assets\/main-[^/]*\.js$/, async (route) => {
    const refuse = "WebAssembly.Memory.prototype.grow = () => { throw new RangeError('WebAssembly.Memory.grow(): refused'); };";
    const response = await route.fetch();
    await route.fulfill({ response, body: (full ? refuse : '') + (await response.text()) });
  });
  await page.goto(`${playground.url}?model=adder&device=cpu&prompt=${PROMPT}&b.depth=2`);
  const banner = page.locator('.banner.problem');
  await banner.getByText('A smaller model, a smaller KV policy or less depth needs less').waitFor();
  expect(await banner.textContent()).toMatch(/no room for \d+ bytes;.*the system gave \d+ and refused more/);
  await page.locator('section[aria-label="Pane B"][data-status="error"]').waitFor();
  const before = await lastRun(page);
  full = false;
  await banner.getByRole('button', { name: 'Start the engine anew' }).click();
  expect(await answerOf(page, 'B', before)).toBe('109');
  await page.getByRole('button', { name: /^adder/ }).waitFor();
  await banner.waitFor({ state: 'detached' });
  await context.close();
});
