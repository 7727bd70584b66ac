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

/** Waits until a pane has answered and its run is recorded; gives the text of its tokens. */
export async function answerOf(page: Page, pane: 'A' | 'B'): Promise<string> {
  const section = page.locator(`section.pane[aria-label="Pane ${pane}"]`);
  await section.and(page.locator('[data-status="done"]')).waitFor();
  return (await section.locator('.token-text').allTextContents()).join('').replace('⏎', '');
}

/** The number that a pane shows under a name. */
export async function metricOf(page: Page, pane: 'A' | 'B', name: string): Promise<number> {
  const text = await page.locator(`section[aria-label="Pane ${pane}"] .metric`).filter({ hasText: name }).locator('dd').textContent();
  return Number.parseFloat(text ?? '');
}
