import type { Io } from './io.js';

const WIDTH = 24;
const INTERVAL_MS = 80;

/** A bar on stderr that redraws one line on a terminal and is silent elsewhere. `done()` removes it. */
export interface Progress {
  update(fraction: number, label: string): void;
  done(): void;
}

export function createProgress(io: Io): Progress {
  if (!io.stderr.isTTY || io.env.TERM === 'dumb') return { update: () => undefined, done: () => undefined };
  let last = Number.NEGATIVE_INFINITY;
  let drawn = false;
  return {
    update(fraction, label) {
      const now = performance.now();
      if (now - last < INTERVAL_MS && fraction < 1) return;
      last = now;
      drawn = true;
      const filled = Math.round(WIDTH * Math.min(1, fraction));
      const line = `${'█'.repeat(filled)}${'░'.repeat(WIDTH - filled)} ${label}`;
      io.stderr.write(`\r\u001b[2K${line.slice(0, Math.max(10, io.stderr.columns - 1))}`);
    },
    done() {
      if (drawn) io.stderr.write('\r\u001b[2K');
      drawn = false;
    },
  };
}
