import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { checkShapes } from './check.js';
import { Emitter, type GeneratedToken } from './emit.js';
import type { ModelCache } from './language-model.js';
import { type CommonOptions, cacheFor, commonNames, parseRun, promptTokens, whole } from './options.js';
import { decodePlain } from './plain.js';
import { limitsFor } from './room.js';
import { type Engine, emptyTally, newLane } from './run.js';

export interface BatchOptions extends CommonOptions {
  readonly prompts: readonly (string | readonly number[])[];
  /** Texts for each prompt, which share its prefill; 1 when absent. Text i has the sampling noise of seed + i and the states of the seed. */
  readonly samples?: number;
  /** An empty cache of the model for prompts times samples sequences. It stays the caller's. */
  readonly cache?: ModelCache;
}

export interface BatchToken extends GeneratedToken {
  /** Index of the prompt. */
  readonly prompt: number;
  /** Which of the prompt's texts, from 0. */
  readonly sample: number;
}

/**
 * Continues several prompts together, padded on the left: one token of each unfinished text per step, in order. Every text is the one
 * that `generate` gives for its prompt alone with `{ seed: seed + sample, stateSeed: seed }`, bit for bit on the CPU; finished texts
 * leave the batch. The last item of each text has `finish` and a `report`. Throws OptionError for bad options before any work.
 */
export async function* generateBatch(options: BatchOptions): AsyncGenerator<BatchToken, void, void> {
  const who = 'generateBatch';
  checkShapes(who, options, ['model', 'prompts']);
  refuseUnknownOptions(who, options, [...commonNames, 'prompts', 'samples', 'cache']);
  const { model, tokenizer, samples = 1, seed = 0, stateSeed = seed } = options;
  if (options.speculative !== undefined || options.wavefront !== undefined) {
    throw new OptionError(
      `${who}: speculative and wavefront decode one sequence: each text would gain another number of tokens per pass; run the prompts one by one`,
    );
  }
  whole(who, 'samples', samples, 1, 65536);
  whole(who, 'seed', seed + samples - 1, 0, Number.MAX_SAFE_INTEGER);
  if (options.prompts.length === 0) return;
  const prompts = options.prompts.map((prompt) => promptTokens(who, model, tokenizer, prompt));
  const run = parseRun(who, options, prompts);
  if (run.maxNewTokens[0] === 0) return;
  const { cache, owned } = cacheFor(who, options, prompts.length * samples, options.cache);
  try {
    const wanted = run.maxNewTokens.flatMap((limit) => new Array<number>(samples).fill(limit));
    // Texts of one prompt share its keys.
    const limits = limitsFor(who, options, run, cache, { prompt: prompts.reduce((sum, { length }) => sum + length, 0), limits: wanted });
    const lanes = prompts.flatMap((prompt, p) =>
      Array.from({ length: samples }, (_, sample) => {
        const index = p * samples + sample;
        return newLane(prompt, { seed: seed + sample, stateSeed, index, limit: limits[index]! });
      }),
    );
    const engine: Engine = { model, cache, initScale: run.initScale, hook: run.hook, signal: run.signal, tally: emptyTally() };
    const emitters = lanes.map((lane) => new Emitter(run, lane, cache, engine.tally));
    const leaders = lanes.map(({ index }) => index - (index % samples));
    for await (const produced of decodePlain(engine, run, lanes, leaders)) {
      const { index } = produced.lane;
      yield { prompt: Math.floor(index / samples), sample: index % samples, ...emitters[index]!.accept(produced) };
    }
  } finally {
    if (owned) cache.dispose();
  }
}
