import { defineConfig } from 'vitest/config';

// Tests import the packages' sources, so that a test run needs no build.
const conditions = ['@unroll/source', 'module', 'node', 'import', 'default'];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    projects: [
      {
        extends: true,
        test: { name: 'node', environment: 'node', include: ['{packages,apps,tooling}/**/*.test.ts'], exclude: ['**/node_modules/**', '**/dist/**'] },
      },
    ],
  },
});
