import { playwright } from '@vitest/browser-playwright';
import { defineConfig } from 'vitest/config';
import { CHROMIUM_ARGS, findChromium, ISOLATION_HEADERS } from './tooling/scripts/chromium.mjs';
import { sharedFixtures } from './tooling/scripts/fixtures.mjs';

// Tests import the packages' sources, so that a test run needs no build.
const forNode = ['@unroll/source', 'module', 'node', 'import', 'default'];
const forBrowser = ['@unroll/source', 'module', 'browser', 'import', 'default'];

const rooms = '{packages,apps,tooling}/**';
const outside = ['**/node_modules/**', '**/dist/**'];
const executablePath = findChromium();
// No test measures time: the limit is there for what hangs, on machines that are slow or busy.
const testTimeout = 60_000;

export default defineConfig({
  test: {
    projects: [
      {
        resolve: { conditions: forNode },
        ssr: { resolve: { conditions: forNode, externalConditions: forNode } },
        test: {
          name: 'node',
          testTimeout,
          environment: 'node',
          include: [`${rooms}/*.test.ts`],
          exclude: [...outside, '**/*.browser.test.ts'],
        },
      },
      {
        resolve: { conditions: forNode },
        ssr: { resolve: { conditions: forNode, externalConditions: forNode } },
        test: {
          name: 'playground',
          environment: 'node',
          include: ['apps/playground/test/*.e2e.ts'],
          globalSetup: ['apps/playground/test/setup.ts'],
          // One browser at a time: they would take the two cores of a small machine from each other.
          fileParallelism: false,
          // Above the limit of a single wait, so that a test that waits in vain can say what the page showed.
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        resolve: { conditions: forBrowser },
        server: { headers: ISOLATION_HEADERS },
        plugins: [sharedFixtures()],
        test: {
          name: 'browser',
          testTimeout,
          include: [`${rooms}/*.browser.test.ts`, `${rooms}/*.any.test.ts`],
          exclude: outside,
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            instances: [{ browser: 'chromium' }],
            provider: playwright({ launchOptions: { args: CHROMIUM_ARGS, ...(executablePath === undefined ? {} : { executablePath }) } }),
          },
        },
      },
    ],
  },
});
