import { parseKVPolicy } from '@unroll/nn';
import { type CommonOptions, type ExitRuleName, exitRule, exitRuleNames, type WavefrontOptions } from '@unroll/sampler';

export type Kind = 'plain' | 'exit' | 'exit by position' | 'warm start' | 'speculative' | 'wavefront' | 'KV policy';

/** A way of decoding that is compared with plain decoding at one depth. */
export interface Strategy {
  readonly name: string;
  readonly kind: Kind;
  readonly options: Partial<CommonOptions>;
  /** Of a rule: what it was asked. */
  readonly exit?: { readonly rule: ExitRuleName; readonly threshold: number };
}

const PLAIN_DEPTHS = [1, 2, 4, 8, 16];

/** Answers here take some ten rounds; a position that has not settled by then goes on moving for ever. */
const MOST_ROUNDS = 100;

/** The thresholds that rules have by themselves. */
export const DEFAULT_THRESHOLDS: Readonly<Record<ExitRuleName, number>> = {
  'latent-diff': 0.03,
  cosine: 1e-3,
  acceleration: 0.03,
  'entropy-diff': 1e-3,
  kl: 1e-3,
  'minp-kl': 1e-5,
  'argmax-stability': 5,
};

/** A rule at a threshold, and at most `depth` recurrences. */
export function exitStrategy(rule: ExitRuleName, threshold: number, depth: number, name = `${rule}:${threshold}`): Strategy {
  return { name, kind: 'exit', options: { recurrences: depth, exit: exitRule(rule, { threshold }) }, exit: { rule, threshold } };
}

export const plainName = (depth: number): string => `plain, r = ${depth}`;
/** One loop's slots, for a model with this many core layers. */
export const oneLoopPolicy = (coreLayers: number): string => `latest-compress-s${coreLayers}`;

const policyStrategy = (policy: string, depth: number): Strategy => ({
  name: policy,
  kind: 'KV policy',
  options: { recurrences: depth, policy: parseKVPolicy(policy) },
});

/** Everything that is compared, at `depth` recurrences where not said otherwise; plain decoding at `depth` is among it. */
export function strategiesFor(depth: number, coreLayers: number): readonly Strategy[] {
  const depths = [...new Set([...PLAIN_DEPTHS, depth])].sort((a, b) => a - b);
  const plain = depths.map((recurrences): Strategy => ({ name: plainName(recurrences), kind: 'plain', options: { recurrences } }));
  const exits = exitRuleNames.map((rule) => exitStrategy(rule, DEFAULT_THRESHOLDS[rule], depth));
  const at = (name: string, kind: Kind, options: Partial<CommonOptions>): Strategy => ({
    name,
    kind,
    options: { recurrences: depth, ...options },
  });
  const wave = (name: string, wavefront: WavefrontOptions): Strategy =>
    at(name, 'wavefront', { wavefront: { maxRounds: MOST_ROUNDS, ...wavefront } });
  const drafts = [1, 2, 4].filter((d) => d < depth);
  const first = drafts[0] ?? 1;
  return [
    ...plain,
    ...exits,
    at('latent-diff:0.03, by position', 'exit by position', { exit: exitRule('latent-diff', { threshold: 0.03, inPrefill: 'positions' }) }),
    at('warm start, norm-state', 'warm start', { warmStart: 'norm-state' }),
    at('warm start, state', 'warm start', { warmStart: 'state' }),
    at('warm start, state, with kl:0.001', 'warm start', { warmStart: 'state', exit: exitRule('kl', { threshold: 1e-3 }) }),
    ...drafts.map((d) => at(`speculative ${d},4`, 'speculative', { speculative: { draftRecurrences: d, lookahead: 4 } })),
    at(`speculative ${first},4, drafts reused`, 'speculative', {
      speculative: { draftRecurrences: first, lookahead: 4, reuseDrafts: true },
    }),
    at(`speculative ${first},4,0.5 (approximate)`, 'speculative', {
      speculative: { draftRecurrences: first, lookahead: 4, threshold: 0.5 },
    }),
    wave('wavefront 4', { innerRecurrences: 4 }),
    wave('wavefront 4,noise=0', { innerRecurrences: 4, stateNoise: 0 }),
    wave('wavefront 4,threshold=0.1,noise=0', { innerRecurrences: 4, threshold: 0.1, stateNoise: 0 }),
    wave('wavefront 2,noise=0,ema=0', { innerRecurrences: 2, stateNoise: 0, emaEmbeds: 0 }),
    wave('wavefront 2,threshold=0.1,noise=0,ema=0', { innerRecurrences: 2, threshold: 0.1, stateNoise: 0, emaEmbeds: 0 }),
    policyStrategy('always-last', depth),
    policyStrategy('last-only', depth),
    policyStrategy('compress-anchor', depth),
    policyStrategy(`latest-compress-s${2 * coreLayers}`, depth),
    policyStrategy(oneLoopPolicy(coreLayers), depth),
  ];
}
