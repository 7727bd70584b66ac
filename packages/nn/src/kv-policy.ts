import { OptionError } from '@unroll/tensor';

/** How many layers each part of a model has. */
export interface LayerCounts {
  readonly prelude: number;
  readonly core: number;
  readonly coda: number;
}

/** One run of one layer for one pass. */
export interface LayerCall {
  readonly part: 'prelude' | 'core' | 'coda';
  /** Counts from 0 and is 0 outside the core: one for the whole pass, or one for each of its sequences. */
  readonly loop: number | readonly number[];
  readonly layer: number;
}

/**
 * How many slots loops keep.
 * - `all`: each layer call has its own;
 * - `modulo`: call number c of the core writes slot c mod calls (newest write wins); `calls` must be a multiple of the core's layers;
 * - `div`: `calls` consecutive calls share a slot;
 * - `anchor`: the first 8 loops have their own, all later loops reuse one further loop's.
 */
export type Compression =
  | { readonly kind: 'all' }
  | { readonly kind: 'modulo' | 'div'; readonly calls: number }
  | { readonly kind: 'anchor' };

/**
 * Which slot of an earlier token a query in slot x reads.
 * - `own`: x; every token must have it, so all tokens need the same depth;
 * - `latest`: the deepest slot <= x of the same layer that the token has;
 * - `always-last`: the deepest slot of the same layer, even deeper than x;
 * - `skip`: x; tokens without it are not seen;
 * - `last-only`: x where the token has it, else its deepest slot of the same layer. Tokens that are decoded keep one loop's slots, in
 *   which the deepest loop is left; prompts keep their own (the rule of Ouro, arXiv 2510.25741). Not with compression.
 */
export type Lookup = 'own' | 'latest' | 'always-last' | 'skip' | 'last-only';

export interface KVPolicy {
  readonly lookup: Lookup;
  readonly compression: Compression;
}

export const fullPolicy: KVPolicy = { lookup: 'own', compression: { kind: 'all' } };

/**
 * What a cache must be able to do for its user.
 * - `equal-depth`: all tokens run to one depth;
 * - `mixed-depth`: tokens of different depths stand side by side (adaptive exit, depth by token);
 * - `parallel`: tokens that run in one pass read the same keys as if they had run one after the other (exact speculation and reuse);
 * - `wavefront`: rounds over a window of unfinished tokens overwrite its keys.
 */
export type CacheUse = 'equal-depth' | 'mixed-depth' | 'parallel' | 'wavefront';

/** The policy for a use when none is asked for: own slots; the latest; or the latest with one loop's slots, as the reference's wavefront has. */
export function defaultPolicy(use: CacheUse, counts: LayerCounts): KVPolicy {
  if (use === 'mixed-depth') return { lookup: 'latest', compression: { kind: 'all' } };
  if (use === 'wavefront') return { lookup: 'latest', compression: { kind: 'modulo', calls: counts.core } };
  return fullPolicy;
}

/** Why a policy cannot serve a use; undefined when it can. */
export function policyRefusal(policy: KVPolicy, counts: LayerCounts, use: CacheUse): string | undefined {
  const { lookup, compression } = policy;
  if (use === 'parallel') {
    if (lookup !== 'always-last' && lookup !== 'last-only' && compression.kind === 'all') return undefined;
    return 'loops overwrite, or read past, the keys of other loops, so a token that runs beside its predecessors reads other keys than one that runs behind them; use full, latest or skip without compression';
  }
  const oneLoop = compression.kind === 'modulo' && compression.calls === counts.core;
  if (use === 'equal-depth' || lookup !== 'own' || oneLoop) return undefined;
  return `each query reads its own slot, which a token of smaller depth does not have; use latest, always-last or skip, or compress-s${counts.core} (one loop's slots)`;
}

const anchorLoops = 8;

/**
 * Slot of a layer call: prelude 0.., core from `counts.prelude` on, coda negative. The source of the rules is the model's published cache.
 * `decode` says that the call is for one new token behind a prompt.
 */
export function slotOf(policy: KVPolicy, counts: LayerCounts, call: LayerCall & { readonly loop: number }, decode = false): number {
  if (call.part === 'prelude') return call.layer;
  if (call.part === 'coda') return -1 - call.layer;
  if (decode && policy.lookup === 'last-only') return counts.prelude + call.layer;
  const number = call.loop * counts.core + call.layer;
  const { compression } = policy;
  switch (compression.kind) {
    case 'all':
      return counts.prelude + number;
    case 'modulo':
      return counts.prelude + (number % compression.calls);
    case 'div':
      return counts.prelude + Math.floor(number / compression.calls);
    case 'anchor':
      return counts.prelude + (call.loop < anchorLoops ? number : anchorLoops * counts.core + call.layer);
  }
}

/** How many slots a token of this depth has, all layers together; `decode` says that it is decoded, not part of a prompt. */
export function slotsOf(policy: KVPolicy, counts: LayerCounts, recurrences: number, decode = false): number {
  const kept = decode && policy.lookup === 'last-only';
  if (policy.compression.kind === 'all') return counts.prelude + (kept ? 1 : recurrences) * counts.core + counts.coda;
  const core = new Set<number>();
  for (let loop = 0; loop < recurrences; loop++)
    for (let layer = 0; layer < counts.core; layer++) core.add(slotOf(policy, counts, { part: 'core', loop, layer }, decode));
  return counts.prelude + core.size + counts.coda;
}

/** Throws OptionError when a policy cannot work for a model with these layers. */
export function checkPolicy(policy: KVPolicy, counts: LayerCounts): void {
  const { compression } = policy;
  if (policy.lookup === 'last-only' && compression.kind !== 'all') {
    throw new OptionError(
      "KV policy: last-only cannot be combined with compression: decoded tokens keep one loop's slots already, and prompts must keep their own",
    );
  }
  if (compression.kind !== 'modulo' && compression.kind !== 'div') return;
  const { calls } = compression;
  if (!Number.isInteger(calls) || calls < 1)
    throw new OptionError(`KV policy: ${compression.kind} needs a whole number of layer calls from 1; got ${calls}`);
  if (compression.kind === 'modulo' && calls % counts.core !== 0) {
    throw new OptionError(
      `KV policy: modulo ${calls} is not a multiple of the core's ${counts.core} layers, so layers would read each other's keys; use ${counts.core} for one loop's budget, ${2 * counts.core} for two`,
    );
  }
}

/**
 * Reads the reference's names: `full`, `latest-m4`, `available-m4`, `always-last-m4`, `skip`, and `last-only`, each alone or followed by
 * `-compress-sN`, `-compress-rN` or `-compress-anchor`; `compress-...` alone reads its own slot. The number after `m` is ignored:
 * it is the core's layer count, which the model knows. Throws OptionError for any other name.
 */
export function parseKVPolicy(name: string): KVPolicy {
  const match =
    /^(?:(full|skip|last-only|(?:latest|available|always-last)(?:-m\d+)?)(?:-(?=compress)|$))?(?:compress-(?:([sr])(\d+)|(anchor)\d*))?$/.exec(
      name,
    );
  if (match === null || name === '') {
    throw new OptionError(
      `unknown KV policy "${name}"; use full, latest, available, always-last, skip or last-only, with -compress-sN, -compress-rN or -compress-anchor behind it or alone`,
    );
  }
  const [, lookup = 'full', kind, calls, anchor] = match;
  const base = lookup.replace(/-m\d+$/, '');
  const compression: Compression =
    anchor !== undefined
      ? { kind: 'anchor' }
      : kind === undefined
        ? { kind: 'all' }
        : { kind: kind === 's' ? 'modulo' : 'div', calls: Number(calls) };
  const lookups: Record<string, Lookup> = {
    full: 'own',
    latest: 'latest',
    available: 'latest',
    'always-last': 'always-last',
    skip: 'skip',
    'last-only': 'last-only',
  };
  return { lookup: lookups[base]!, compression };
}
