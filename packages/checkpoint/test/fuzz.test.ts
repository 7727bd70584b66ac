import { describe, expect, it } from 'vitest';
import { fuzz } from './support/fuzz.js';

// `pnpm --filter @unroll/checkpoint fuzz` runs a million.
const FILES = Number(process.env.UNROLL_FUZZ_FILES ?? 4000);
const SEED = Number(process.env.UNROLL_FUZZ_SEED ?? 1);
const REPORT_EVERY = 100_000;

// Every way to refuse that a mutated or ill-made single file can reach. `header-limit` includes a flipped bit of the length.
const REACHABLE = [
  'truncated',
  'header-length',
  'header-limit',
  'header-encoding',
  'header-json',
  'duplicate-name',
  'bad-name',
  'bad-metadata',
  'bad-entry',
  'unknown-field',
  'unknown-dtype',
  'bad-shape',
  'shape-overflow',
  'size-mismatch',
  'bad-offsets',
  'out-of-range',
  'overlap',
  'gap',
  'trailing-bytes',
];

describe(`${FILES} fuzzed files`, () => {
  it(
    'are read right or refused with a typed error: no crash, no hang, no read beyond the file',
    async () => {
      const start = performance.now();
      const rssBefore = process.memoryUsage().rss;
      let next = REPORT_EVERY;
      const report = await fuzz(FILES, SEED, ({ files }) => {
        if (files < next) return;
        next += REPORT_EVERY;
        const seconds = ((performance.now() - start) / 1000).toFixed(0);
        console.log(
          `${files} files in ${seconds} s, memory ${((process.memoryUsage().rss - rssBefore) / 1e6).toFixed(0)} MB above the start`,
        );
      });
      if (FILES >= REPORT_EVERY) console.log(report);
      expect(report.files).toBe(FILES);
      expect(REACHABLE).toEqual(expect.arrayContaining([...report.refused.keys()]));
      // A short run meets nearly all of them; which it misses depends on the seed.
      expect(report.refused.size).toBeGreaterThanOrEqual(FILES >= REPORT_EVERY ? REACHABLE.length : REACHABLE.length - 4);
      expect(report.accepted).toBeGreaterThan(FILES / 20);
      // A loaded machine may pause a run for a second; these files have under a kilobyte.
      expect(report.slowestMs).toBeLessThan(5000);
      expect(process.memoryUsage().rss - rssBefore).toBeLessThan(400e6);
    },
    Math.max(60_000, FILES * 5),
  );
});
