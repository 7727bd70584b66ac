import { readdirSync } from 'node:fs';
import type { Page } from 'playwright';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ADDER, type Hub, type HubOptions, startHub } from './hub-server.js';
import { answerOf, type Playground, runBoth, startPlayground } from './support.js';

let playground: Playground;
let hub: Hub | undefined;
beforeAll(async () => {
  playground = await startPlayground();
});
afterEach(() => hub?.close());
afterAll(() => playground.close());

const PROMPT = '69862+90145=';

/** The page with the hub's address filled in. */
async function openModels(options: HubOptions) {
  hub = await startHub(options);
  const opened = await playground.open('?view=models&model=adder');
  const { page } = opened;
  await page.getByRole('button', { name: /^adder/ }).waitFor();
  await page.locator('.remote summary').click();
  await page.getByLabel('Address of the hub').fill(hub.url);
  await page.getByLabel('Hub id or address').fill('owner/adder');
  return { ...opened, hub };
}

const start = (page: Page) => page.getByRole('button', { name: 'Download', exact: true }).click();

async function ask(page: Page): Promise<string> {
  await page.getByLabel('Prompt', { exact: true }).fill(PROMPT);
  return (await runBoth(page))[1];
}

test('a folder that is dropped is loaded and answers', async () => {
  const { page, context, complaints } = await playground.open('?view=models&model=adder');
  await page.locator('.now b').waitFor();
  const zone = await page.locator('.drop').boundingBox();
  const client = await context.newCDPSession(page);
  const at = { x: zone!.x + 40, y: zone!.y + 20, data: { items: [], files: [ADDER], dragOperationsMask: 1 } };
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const) await client.send('Input.dispatchDragEvent', { type, ...at });
  await page.locator('[data-view="think"]').waitFor();
  expect(await ask(page)).toBe('160007');
  await page.getByRole('button', { name: /^adder/ }).click();
  expect(await page.getByRole('button', { name: 'Back to the built-in model' }).count()).toBe(1);
  expect(complaints).toEqual([]);
  await context.close();
});

test('a model that is chosen while the first one is being tried is asked what its visitor asks, and nothing else', async () => {
  const { page, context, complaints } = await playground.open('?view=models');
  await page.getByTestId('files').setInputFiles(readdirSync(ADDER).map((name) => `${ADDER}/${name}`));
  await page.locator('[data-view="think"]').waitFor();
  await page.getByRole('button', { name: /^local files/ }).waitFor();
  expect(await page.getByLabel('Prompt', { exact: true }).inputValue()).toBe('');
  expect(await ask(page)).toBe('160007');
  expect(complaints).toEqual([]);
  await context.close();
});

test('files without a config are refused by name', async () => {
  const { page, context } = await playground.open('?view=models&model=adder');
  await page.getByTestId('files').setInputFiles([`${ADDER}/tokenizer.json`]);
  expect(await page.getByRole('alert').textContent()).toContain('no config.json among tokenizer.json');
  await context.close();
});

test('a broken download goes on with a range, is checked, listed, used again after a reload, and deleted', async () => {
  const { page, context, hub: server } = await openModels({ cutAfter: 300_000, cuts: 2 });
  await start(page);
  await page.getByText(/going on from byte/).waitFor();
  await page.locator('[data-view="think"]').waitFor();
  expect(server.asked.length).toBe(3);
  expect(server.asked[0]).toBe(0);
  expect(server.asked[1]).toBeGreaterThanOrEqual(131_072);
  // A connection may be cut again before anything new was kept.
  expect(server.asked[2]).toBeGreaterThanOrEqual(server.asked[1]!);
  expect(await ask(page)).toBe('160007');
  expect(Object.fromEntries(new URL(page.url()).searchParams)).toEqual({ model: 'stored:owner~adder', prompt: PROMPT });
  await server.close();
  await page.reload();
  expect(await answerOf(page, 'B')).toBe('160007');
  await page.getByRole('button', { name: 'Models', exact: true }).click();
  const row = page.locator('.stored tr');
  expect(await row.textContent()).toMatch(/owner\/adder.*SHA-256 checked: 1 of/);
  await row.getByRole('button', { name: 'Delete' }).click();
  await page.getByText('Nothing is stored yet').waitFor();
  await context.close();
});

test('a paused download says how far it is, and resumes from there after a reload', async () => {
  const { page, context, hub: server } = await openModels({ slow: 250 });
  await start(page);
  await page.getByText('loading model.safetensors').waitFor();
  await page.getByText(/[1-7]\d\d kB of 859 kB, .*\/s, \d+ s left/).waitFor();
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByText('not whole').waitFor();
  server.options = {};
  await page.reload();
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.locator('[data-view="think"]').waitFor();
  expect(server.asked.at(-1)).toBeGreaterThan(0);
  await context.close();
});

test('a page that is left in the middle of a download goes on with it when it is back', async () => {
  const { page, context, hub: server } = await openModels({ slow: 250 });
  await start(page);
  await page.getByText(/[1-7]\d\d kB of 859 kB/).waitFor();
  server.options = {};
  await page.reload();
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.locator('[data-view="think"]').waitFor();
  expect(server.asked.length).toBe(2);
  expect(server.asked[1]).toBeGreaterThan(0);
  await context.close();
});

test('a file with another SHA-256 than promised is refused and deleted', async () => {
  const { page, context } = await openModels({ lie: true });
  await start(page);
  expect(await page.locator('.remote [role="alert"]').textContent()).toMatch(
    /has SHA-256 [0-9a-f]{64}, and the source says 0{64}; it was deleted/,
  );
  expect(await page.locator('.stored').textContent()).toContain('not whole');
  await context.close();
});

test('a model that does not fit is refused before a byte of it is loaded', async () => {
  const { page, context, hub: server } = await openModels({});
  const client = await context.newCDPSession(page);
  await client.send('Storage.overrideQuotaForOrigin', { origin: new URL(playground.url).origin, quotaSize: 200_000 });
  await start(page);
  expect(await page.locator('.remote [role="alert"]').textContent()).toMatch(
    /"owner\/adder" needs 859 kB more than this browser gives this page/,
  );
  expect(server.asked).toEqual([]);
  await context.close();
});

test('a plain folder on a web server is found without a listing', async () => {
  const { page, context, hub: server } = await openModels({});
  await page.getByLabel('Hub id or address').fill(`${server.url}/plain/`);
  await start(page);
  await page.locator('[data-view="think"]').waitFor();
  expect(await ask(page)).toBe('160007');
  await context.close();
});
