import { OutOfMemoryError } from '@unroll/tensor';
import type { ModelCache } from './language-model.js';
import { type CommonOptions, knownDepth } from './options.js';
import type { Run } from './run.js';

/** How many tokens a run will have: those of prompts that the cache lacks, and of each text the most new ones. */
export interface Wanted {
  readonly prompt: number;
  readonly limits: readonly number[];
  /** Tokens that later runs may have besides, which are not looked at but may grow in the same place. */
  readonly later?: number;
}

/**
 * The most new tokens of each text: what was asked for, or what the device has memory for where nothing was. Tells the cache what will
 * come. With an exit rule, new tokens count as of one recurrence, since they may end there. Throws OutOfMemoryError, before any work, where
 * keys and values would have no room.
 */
export function limitsFor(who: string, options: CommonOptions, run: Run, cache: ModelCache, wanted: Wanted): readonly number[] {
  const depth = knownDepth(options);
  if (depth === undefined) return wanted.limits;
  const limits = fitting(who, options, run, cache, wanted, depth);
  const total = limits.reduce((sum, limit) => sum + limit, 0);
  cache.expect?.(wanted.prompt, total + (wanted.later ?? 0), depth);
  return limits;
}

function fitting(who: string, options: CommonOptions, run: Run, cache: ModelCache, { prompt, limits }: Wanted, depth: number) {
  const room = cache.room?.(prompt, depth);
  if (room === undefined || room.left === Number.POSITIVE_INFINITY) return limits;
  const least = run.exit === undefined ? room.token : cache.room!(0, 1).token;
  const total = limits.reduce((sum, limit) => sum + limit, 0);
  const fit = Math.floor((room.left - room.prompt) / least);
  if (total <= fit) return limits;
  const each = Math.floor(fit / limits.length);
  if (options.maxNewTokens === undefined && each >= 1) return limits.map((limit) => Math.min(limit, each));
  const texts = limits.length === 1 ? '' : ` in ${limits.length} texts`;
  const advice = each >= 1 ? `ask for at most ${each} new tokens${limits.length === 1 ? '' : ' each'}` : 'shorten the prompt';
  const { device } = run.model;
  throw new OutOfMemoryError(
    `${who}: no room for keys and values: ${prompt} prompt and ${total} new tokens${texts} at depth ${depth} take ${room.prompt + total * least} bytes, and ${Math.max(0, room.left)} are left on the ${device.kind} device (${device.capacity.why}); ${advice}, lower the depth, or keep the keys of fewer loops, as the KV policies with compress do`,
  );
}
