import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright';
import { CHROMIUM_ARGS, findChromium } from '../../../tooling/scripts/chromium.mjs';
import { servePlayground } from '../serve.mjs';

export interface Playground {
  readonly url: string;
  readonly browser: Browser;
  /** A page of its own context; what its console says above "info" is kept and must be empty at the end. */
  open(query?: string, options?: BrowserContextOptions): Promise<Opened>;
  close(): Promise<void>;
}

export interface Opened {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Errors and warnings of the console, and uncaught exceptions. */
  readonly complaints: string[];
}

/** Nothing here measures time: the limit is there for what hangs, on machines that are slow or busy. */
export const PATIENCE_MS = 120_000;
/** For `expect.poll`. */
export const patiently = { timeout: PATIENCE_MS };

/** Chromium prints these about its own software GPU and about blocked service workers, not about the page. */
const NOT_OURS = [
  /Service Worker registration blocked by Playwright/,
  /WebGPU is experimental|powerPreference option is currently ignored/,
];

export async function startPlayground(options: { args?: string[]; isolated?: boolean } = {}): Promise<Playground> {
  const server = await servePlayground(options.isolated === undefined ? {} : { isolated: options.isolated });
  const browser = await chromium.launch({ executablePath: findChromium() ?? '', args: options.args ?? CHROMIUM_ARGS });
  return {
    url: server.url,
    browser,
    async open(query = '', contextOptions = {}) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, serviceWorkers: 'block', ...contextOptions });
      context.setDefaultTimeout(PATIENCE_MS);
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on('console', (message) => {
        const text = message.text();
        if (['error', 'warning'].includes(message.type()) && !NOT_OURS.some((known) => known.test(text))) complaints.push(text);
      });
      page.on('pageerror', (error) => complaints.push(String(error)));
      await page.goto(server.url + query);
      return { page, context, complaints };
    },
    async close() {
      await browser.close();
      await server.close();
    },
  };
}

export type PaneName = 'A' | 'B';

/** What the page says of itself, for the message of a test that waited in vain. */
async function stateOf(page: Page): Promise<string> {
  const texts = (selector: string) => page.locator(selector).allTextContents();
  const panes = await page.locator('section.pane').evaluateAll((all) => all.map(({ dataset: { run, status } }) => `${run}: ${status}`));
  return JSON.stringify({ url: page.url(), panes, status: await texts('.status'), banners: await texts('.banner, [role="alert"]') });
}

/** The number of the newest run that the panes show; what is asked from now on has a higher one. */
export const lastRun = (page: Page): Promise<number> =>
  page.locator('section.pane').evaluateAll((all) => Math.max(0, ...all.map(({ dataset }) => Number(dataset['run']))));

/**
 * Waits until a pane shows the whole answer of a run later than run `after`; gives the labels of its tokens, a line end as `⏎`. Status and
 * text are read in one moment: the next would show another run where one has begun.
 */
export async function tokensOf(page: Page, pane: PaneName, after = 0): Promise<readonly string[]> {
  const look = ([label, least]: readonly [string, number]) => {
    const section = document.querySelector<HTMLElement>(`section.pane[aria-label="${label}"]`);
    const { run, status } = section?.dataset ?? {};
    if (Number(run ?? 0) <= least || (status !== 'done' && status !== 'error')) return undefined;
    const texts = (selector: string) => [...section!.querySelectorAll(selector)].map(({ textContent }) => textContent ?? '');
    return { tokens: texts('.token-text'), problem: status === 'error' ? texts('[role="alert"]').join() : undefined };
  };
  let found: Awaited<ReturnType<typeof look>>;
  try {
    found = await (await page.waitForFunction(look, [`Pane ${pane}`, after] as const)).jsonValue();
  } catch (error) {
    throw new Error(`pane ${pane} does not answer: ${await stateOf(page)}`, { cause: error });
  }
  if (found?.problem !== undefined) throw new Error(`pane ${pane} failed: ${found.problem}`);
  return found!.tokens;
}

/** The text of a pane's answer, once it is whole. */
export const answerOf = async (page: Page, pane: PaneName, after = 0): Promise<string> =>
  (await tokensOf(page, pane, after)).join('').replace('⏎', '');

/** Presses Run and gives both answers. */
export async function runBoth(page: Page): Promise<readonly [string, string]> {
  const before = await lastRun(page);
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  return [await answerOf(page, 'A', before), await answerOf(page, 'B', before)];
}

/** The number that a pane shows under a name. */
export async function metricOf(page: Page, pane: PaneName, name: string): Promise<number> {
  const text = await page.locator(`section[aria-label="Pane ${pane}"] .metric`).filter({ hasText: name }).locator('dd').textContent();
  return Number.parseFloat(text ?? '');
}
