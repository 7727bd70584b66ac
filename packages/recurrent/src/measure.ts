import { forward } from './forward.js';
import type { RecurrentModel } from './model.js';

const PROMPT = 8;
// Beyond this a measurement on a slow device would be felt; one token is always finished.
const BUDGET_MS = 1500;
const TOKENS = 3;

/**
 * Milliseconds of a generated token at the model's usual depth on its device, the fastest of a few; compiling is left out by a first token.
 * It takes about a second and a half at most where a token does not take longer, and leaves nothing behind.
 */
export async function measureToken(model: RecurrentModel): Promise<number> {
  const length = Math.min(PROMPT, Math.max(1, model.contextLength - TOKENS - 1));
  const cache = model.createCache();
  const run = async (tokens: number[]): Promise<void> => {
    const logits = forward(model, [tokens], { cache });
    try {
      await logits.data();
    } finally {
      logits.dispose();
    }
  };
  try {
    const began = performance.now();
    await run(Array.from({ length }, (_, i) => i % model.vocabularySize));
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i <= TOKENS && cache.length() < model.contextLength; i++) {
      const started = performance.now();
      await run([0]);
      // The first token compiles what a prompt does not use.
      if (i > 0 || performance.now() - began > BUDGET_MS) best = Math.min(best, performance.now() - started);
      if (performance.now() - began > BUDGET_MS) break;
    }
    return best;
  } finally {
    cache.dispose();
  }
}
