// Makes docs/screenshots from the built page: npm run build first, then "node apps/playground/scripts/screenshots.mjs".
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright';
import { CHROMIUM_ARGS, findChromium } from '../../../tooling/scripts/chromium.mjs';
import { servePlayground } from '../serve.mjs';

const OUT = fileURLToPath(new URL('../../../docs/screenshots', import.meta.url));
const DESKTOP = { viewport: { width: 1280, height: 860 } };
/** For pictures of many colours, which would be over 200 kB. */
const NARROW = { viewport: { width: 1060, height: 860 } };
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 1.5, isMobile: true, hasTouch: true };

/** @typedef {import('playwright').Page} Page */

const answered = (/** @type {Page} */ page) =>
  page.waitForFunction(
    () => document.querySelectorAll('.pane[data-status="done"]').length === 2 && document.querySelector('.evolution') !== null,
  );
const inside = async (/** @type {Page} */ page, /** @type {string} */ name) => {
  await answered(page);
  await page.getByRole('button', { name, exact: true }).click();
};

/** @type {[name: string, query: string, options: import('playwright').BrowserContextOptions, steps: (page: Page) => Promise<unknown>][]} */
const PICTURES = [
  ['think-dark', '', { ...DESKTOP, colorScheme: 'dark' }, answered],
  [
    'token-light',
    '?a.depth=24&a.strategy=adaptive',
    { ...NARROW, colorScheme: 'light' },
    async (page) => {
      await answered(page);
      await page.locator('section[aria-label="Pane A"] .token').nth(1).hover();
    },
  ],
  ['settling-dark', '', { ...DESKTOP, colorScheme: 'dark' }, (page) => inside(page, 'Settling')],
  [
    'trajectories-light',
    '?b.depth=16',
    { ...NARROW, colorScheme: 'light' },
    async (page) => {
      await inside(page, 'Trajectories');
      await page.getByText('of the variance').waitFor();
    },
  ],
  ['wavefront-dark', '?b.strategy=wavefront&b.depth=16', { ...DESKTOP, colorScheme: 'dark' }, (page) => inside(page, 'Wavefront')],
  ['memory-light', '?b.depth=32', { ...DESKTOP, colorScheme: 'light' }, (page) => inside(page, 'Memory')],
  [
    'intervene-dark',
    '',
    { ...DESKTOP, colorScheme: 'dark' },
    async (page) => {
      await answered(page);
      await page.locator('nav').getByRole('button', { name: 'Intervene' }).click();
      await page.getByRole('button', { name: 'New thought' }).click();
      await page.getByRole('button', { name: 'Run to loop 4' }).click();
      await page.getByText('after loop 4').waitFor();
      await page.getByRole('button', { name: 'Fork' }).click();
      await page.getByRole('button', { name: 'Add noise here' }).nth(1).click();
      await page.getByLabel('Pause at loop').fill('12');
      for (const i of [0, 1]) {
        await page.getByRole('button', { name: 'Run to loop 12' }).nth(i).click();
        await page.locator('.thought').nth(i).getByText('after loop 12').waitFor();
      }
    },
  ],
  [
    'train-dark',
    '?view=train',
    { ...DESKTOP, colorScheme: 'dark' },
    async (page) => {
      await page.getByLabel('Steps', { exact: true }).fill('300');
      await page.getByRole('button', { name: 'Start training' }).click();
      await page.getByRole('button', { name: 'Save as safetensors', disabled: false }).waitFor({ timeout: 300_000 });
    },
  ],
  ['models-light', '?view=models', { ...DESKTOP, colorScheme: 'light' }, (page) => page.getByText('Nothing is stored yet').waitFor()],
  ['device-dark', '?view=device', { ...DESKTOP, colorScheme: 'dark' }, (page) => page.getByText('Computing on').waitFor()],
  [
    'chat-light',
    '?view=chat',
    { ...DESKTOP, colorScheme: 'light' },
    async (page) => {
      await page.locator('.status .pill:not(.loading)').first().waitFor();
      for (const [i, question] of ['91688+88489=', '%2443312132341143='].entries()) {
        await page.getByLabel('Message', { exact: true }).fill(question);
        await page.keyboard.press('Enter');
        await page.locator('.turn').nth(i).getByText('tokens/s').waitFor();
      }
    },
  ],
  ['phone-dark', '', { ...PHONE, colorScheme: 'dark' }, answered],
];

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !PICTURES.some(([known]) => known === name));
if (unknown.length > 0)
  throw new Error(`there is no picture ${unknown.join(', ')}; there are ${PICTURES.map(([name]) => name).join(', ')}`);

const server = await servePlayground();
const browser = await chromium.launch({ executablePath: findChromium() ?? '', args: CHROMIUM_ARGS });
try {
  for (const [name, query, options, steps] of PICTURES) {
    if (chosen.length > 0 && !chosen.includes(name)) continue;
    const context = await browser.newContext({ ...options, serviceWorkers: 'block' });
    const page = await context.newPage();
    await page.goto(server.url + query);
    await steps(page);
    await page.evaluate(() => window.scrollTo(0, 0));
    await page.waitForTimeout(600);
    const phone = options.isMobile === true;
    await page.screenshot({ path: join(OUT, `${name}.png`), fullPage: !phone });
    await context.close();
    console.log(`docs/screenshots/${name}.png`);
  }
} finally {
  await browser.close();
  await server.close();
}
