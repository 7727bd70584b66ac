import { playwright } from '@vitest/browser-playwright';
import { defineConfig } from 'vitest/config';
import { CHROMIUM_ARGS, findChromium, ISOLATION_HEADERS } from './tooling/scripts/chromium.mjs';

// Tests import the packages' sources, so that a test run needs no build.
const forNode = ['@unroll/source', 'module', 'node', 'import', 'default'];
const forBrowser = ['@unroll/source', 'module', 'browser', 'import', 'default'];

const rooms = '{packages,apps,tooling}/**';
const outside = ['**/node_modules/**', '**/dist/**'];
const executablePath = findChromium();

export default defineConfig({
  test: {
    projects: [
      {
        resolve: { conditions: forNode },
        ssr: { resolve: { conditions: forNode, externalConditions: forNode } },
        test: {
          name: 'node',
          environment: 'node',
          include: [`${rooms}/*.test.ts`],
          exclude: [...outside, '**/*.browser.test.ts'],
        },
      },
      {
        resolve: { conditions: forBrowser },
        server: { headers: ISOLATION_HEADERS },
        test: {
          name: 'browser',
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
