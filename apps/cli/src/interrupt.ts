import { EXIT } from './errors.js';
import type { Io } from './io.js';

/** Does work that Ctrl-C aborts by its signal, also inside a token. Gives the work's exit code, or 130. */
export async function interruptible(io: Io, work: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const controller = new AbortController();
  const release = io.onInterrupt(() => controller.abort());
  try {
    return await work(controller.signal);
  } catch (error) {
    if (controller.signal.aborted && error === controller.signal.reason) return EXIT.interrupted;
    throw error;
  } finally {
    release();
  }
}
