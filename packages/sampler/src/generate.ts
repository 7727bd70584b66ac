import { refuseUnknownOptions } from '@unroll/tensor';
import { decodeAhead, mayLookAhead } from './ahead.js';
import { checkShapes } from './check.js';
import { Emitter, type GeneratedToken } from './emit.js';
import type { ModelCache } from './language-model.js';
import { type CommonOptions, cacheFor, commonNames, parseRun, promptTokens } from './options.js';
import { decodePlain, type Strategy } from './plain.js';
import { limitsFor } from './room.js';
import { type Engine, emptyTally, type Lane, newLane, type Run } from './run.js';
import { decodeSpeculatively } from './speculative.js';
import { decodeWavefront } from './wavefront.js';

export interface GenerateOptions extends CommonOptions {
  readonly prompt: string | readonly number[];
  /** An empty cache of the model for one sequence. It stays the caller's: read its `usage()` afterwards, and dispose it. */
  readonly cache?: ModelCache;
}

export function strategyFor(engine: Engine, run: Run, lane: Lane): Strategy {
  if (run.speculative !== undefined) return decodeSpeculatively(engine, run, lane);
  if (run.wavefront !== undefined) return decodeWavefront(engine, run, lane);
  return mayLookAhead(engine, run) ? decodeAhead(engine, run, lane) : decodePlain(engine, run, [lane]);
}

/**
 * Streams the continuation of a prompt, token by token. Ends at a stop token (which is the last item, without text of its own), at a
 * stop string, or at `maxNewTokens`; the last item has `finish` and the run's `report`. Leaving the loop, an abort or an error gives
 * all memory back. Throws OptionError for bad or impossible options, and OutOfMemoryError where keys and values would have no room, before
 * any work.
 *
 * @example
 * for await (const { text } of generate({ model, tokenizer, prompt: '2+3=', recurrences: 8 })) process.stdout.write(text);
 */
export async function* generate(options: GenerateOptions): AsyncGenerator<GeneratedToken, void, void> {
  checkShapes('generate', options, ['model', 'prompt']);
  refuseUnknownOptions('generate', options, [...commonNames, 'prompt', 'cache']);
  const { model, tokenizer, seed = 0, stateSeed = seed } = options;
  const prompt = promptTokens('generate', model, tokenizer, options.prompt);
  const run = parseRun('generate', options, [prompt]);
  const { cache, owned } = cacheFor('generate', options, 1, options.cache);
  try {
    if (run.maxNewTokens[0] === 0) return;
    const [limit] = limitsFor('generate', options, run, cache, { prompt: prompt.length, limits: run.maxNewTokens });
    const lane = newLane(prompt, { seed, stateSeed, limit: limit! });
    const engine: Engine = { model, cache, initScale: run.initScale, hook: run.hook, signal: run.signal, tally: emptyTally() };
    const emitter = new Emitter(run, lane, cache, engine.tally);
    for await (const produced of strategyFor(engine, run, lane)) yield emitter.accept(produced);
  } finally {
    if (owned) cache.dispose();
  }
}
