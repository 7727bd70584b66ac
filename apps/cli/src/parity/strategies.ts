import { type KVPolicy, parseKVPolicy } from '@unroll/nn';
import {
  type ExitRule,
  exitRule,
  type FreezeRule,
  freezeRules,
  type SpeculativeOptions,
  type WarmStart,
  type WavefrontOptions,
} from '@unroll/sampler';
import { OptionError } from '@unroll/tensor';
import type { GenerationRecord } from './fixture.js';

/** How the reference was asked to decode, in our options. */
export interface StrategyPlan {
  readonly kind: 'plain' | 'warm-start' | 'kv-policy' | 'adaptive' | 'speculative' | 'wavefront';
  readonly recurrences: number;
  readonly initScale: number;
  readonly policy?: KVPolicy;
  readonly warmStart?: WarmStart;
  readonly exit?: ExitRule;
  readonly speculative?: SpeculativeOptions;
  readonly wavefront?: WavefrontOptions;
}

/** Arguments that this program does not know how to follow; the message names them. */
export class UnknownArguments extends Error {}

/** Reads `args` by name, remembering which were taken. */
class Args {
  readonly #left: Set<string>;

  constructor(readonly values: Readonly<Record<string, unknown>>) {
    this.#left = new Set(Object.keys(values));
  }

  has(name: string): boolean {
    return this.values[name] !== undefined && this.values[name] !== null;
  }

  #take<T>(name: string, type: string): T | undefined {
    this.#left.delete(name);
    if (!this.has(name)) return undefined;
    const value = this.values[name];
    if (typeof value !== type) throw new UnknownArguments(`args.${name} must be a ${type}; got ${JSON.stringify(value)}`);
    return value as T;
  }

  number = (name: string): number | undefined => this.#take<number>(name, 'number');
  text = (name: string): string | undefined => this.#take<string>(name, 'string');
  flag = (name: string): boolean => this.#take<boolean>(name, 'boolean') ?? false;

  finish(): void {
    if (this.#left.size > 0) throw new UnknownArguments(`unknown argument ${[...this.#left].map((name) => `args.${name}`).join(', ')}`);
  }
}

/** Leaves out what is undefined. */
const given = <T extends object>(options: { readonly [K in keyof T]: T[K] | undefined }): T =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;

function policyOf(name: string | undefined): { policy?: KVPolicy } {
  return name === undefined ? {} : { policy: parseKVPolicy(name) };
}

function exitControls(args: Args): { minRecurrences: number | undefined; every: number | undefined; inPrefill: false | undefined } {
  const steps = args.number('min_steps');
  const [short, long] = [args.number('every'), args.number('check_criterion_every_n_steps')];
  if (short !== undefined && long !== undefined && short !== long)
    throw new UnknownArguments(`args.every is ${short} and args.check_criterion_every_n_steps ${long}; they mean the same`);
  return {
    // The reference counts loops from 0, and asks first after loop m + 1.
    minRecurrences: steps === undefined ? undefined : steps + 1,
    every: short ?? long,
    inPrefill: args.flag('do_not_exit_in_prefill') ? false : undefined,
  };
}

function planOf(args: Args): StrategyPlan {
  const initScale = args.number('init_scale') ?? 0;
  const continuous = args.flag('continuous_compute');
  if (args.has('criterion')) {
    const rule = args.text('criterion')!;
    const exit = exitRule(rule, given({ threshold: args.number('threshold'), ...exitControls(args) }));
    const warmStart: { warmStart?: WarmStart } = continuous ? { warmStart: 'state' } : {};
    const recurrences = args.number('max_steps') ?? args.number('num_steps');
    return {
      kind: 'adaptive',
      recurrences: required(recurrences, 'max_steps'),
      initScale,
      exit,
      ...warmStart,
      ...policyOf(args.text('lookup') ?? args.text('cache_lookup_strategy')),
    };
  }
  const recurrences = required(args.number('num_steps'), 'num_steps');
  const { policy } = policyOf(args.text('cache_lookup_strategy') ?? args.text('lookup'));
  const base = { recurrences, initScale, ...(policy === undefined ? {} : { policy }) };
  if (args.has('draft_steps')) {
    const threshold = args.number('verification_threshold');
    const speculative = given<SpeculativeOptions>({
      draftRecurrences: args.number('draft_steps')!,
      lookahead: required(args.number('lookahead_for_draft'), 'lookahead_for_draft'),
      // From 1 on, the reference accepts the most likely token alone, which is exact decoding.
      threshold: threshold === undefined || threshold >= 1 ? undefined : threshold,
    });
    return { kind: 'speculative', ...base, speculative };
  }
  if (args.has('inner_recurrence') || args.has('freeze_strategy')) {
    const freeze = args.text('freeze_strategy');
    if (freeze !== undefined && !(freezeRules as readonly string[]).includes(freeze))
      throw new UnknownArguments(`unknown freeze_strategy "${freeze}"`);
    const rounds = args.number('max_diffusion_steps');
    const wavefront = given<WavefrontOptions>({
      innerRecurrences: args.number('inner_recurrence'),
      freeze: freeze as FreezeRule | undefined,
      emaEmbeds: args.number('ema_embeds'),
      stateNoise: args.number('state_noise_mixing'),
      headway: args.number('headway'),
      maxWavefront: args.number('max_wavefront'),
      threshold: args.number('exit_t'),
      // The reference tests its counter behind the round, and for more than.
      maxRounds: rounds === undefined ? undefined : rounds + 2,
      continuous: continuous ? true : undefined,
    });
    return { kind: 'wavefront', ...base, wavefront };
  }
  if (continuous) return { kind: 'warm-start', ...base, warmStart: 'norm-state' };
  return { kind: policy === undefined ? 'plain' : 'kv-policy', ...base };
}

function required(value: number | undefined, name: string): number {
  if (value === undefined) throw new UnknownArguments(`args.${name} is missing`);
  return value;
}

/** The strategy that a record's arguments ask for. Throws UnknownArguments. */
export function planFor(record: GenerationRecord): StrategyPlan {
  const args = new Args((record.args ?? {}) as Record<string, unknown>);
  try {
    const plan = planOf(args);
    args.finish();
    return plan;
  } catch (error) {
    if (error instanceof OptionError) throw new UnknownArguments(error.message);
    throw error;
  }
}
