import { concat, OptionError, refuseUnknownOptions, type Tensor } from '@unroll/tensor';
import type { Thought } from './call.js';
import { disposeThought, type Produced, prefill, requestOf, type Strategy } from './plain.js';
import type { Engine, Lane, Run } from './run.js';
import { type Choice, chooseTokens, describeTokens } from './sampling.js';
import { think } from './think.js';

export interface SpeculativeOptions {
  /** Depth of the drafts. */
  readonly draftRecurrences: number;
  /** Drafts per round. */
  readonly lookahead: number;
  /**
   * Accepts a draft when its probability is at least this share of the best token's, as the reference does: approximate, another text
   * than plain decoding gives. Without it, a draft is accepted when plain decoding would have chosen it: the text is exactly the same,
   * greedy or sampled.
   */
  readonly threshold?: number;
  /**
   * Verification goes on from the drafts' states and keys instead of starting anew: their first recurrences are the same, so the text
   * is too. Saves `draftRecurrences` per round and position, and gives up the token behind a fully accepted round.
   */
  readonly reuseDrafts?: boolean;
}

/** Throws OptionError. */
export function parseSpeculative(who: string, options: SpeculativeOptions | undefined, depth: number): SpeculativeOptions | undefined {
  if (options === undefined) return undefined;
  refuseUnknownOptions(`${who}: speculative`, options, ['draftRecurrences', 'lookahead', 'threshold', 'reuseDrafts']);
  const { draftRecurrences, lookahead, threshold } = options;
  if (!Number.isInteger(draftRecurrences) || draftRecurrences < 1 || draftRecurrences > depth) {
    throw new OptionError(
      `${who}: speculative.draftRecurrences must be a whole number from 1 to the depth, ${depth}; got ${draftRecurrences}`,
    );
  }
  if (!Number.isInteger(lookahead) || lookahead < 1 || lookahead > 1024) {
    throw new OptionError(`${who}: speculative.lookahead must be a whole number from 1 to 1024; got ${lookahead}`);
  }
  if (threshold !== undefined && !(threshold >= 0 && threshold <= 1)) {
    throw new OptionError(`${who}: speculative.threshold must be from 0 to 1; got ${threshold}. Leave it out for exact decoding`);
  }
  return options;
}

/** Drafts at small depth, one after the other. `states` takes the states (1, 1, C) that they come from, for the caller to dispose. */
async function draft(engine: Engine, run: Run, lane: Lane, most: number, states: Tensor[]): Promise<number[]> {
  const base = lane.tokens.length - 1;
  const drafts: number[] = [];
  while (drafts.length < most) {
    engine.signal?.throwIfAborted();
    const token = drafts[drafts.length - 1] ?? lane.tokens[base]!;
    const thought = await think(engine, {
      lanes: [lane],
      tokens: Int32Array.of(token),
      positions: Int32Array.of(base + drafts.length),
      depth: run.speculative!.draftRecurrences,
      readout: 'last',
    });
    states.push(thought.state);
    const [choice] = await chooseTokens(thought.logits, [requestOf(lane, drafts)], run.sampling).finally(() => thought.logits.dispose());
    drafts.push(choice!.token);
    if (run.stopTokens.has(choice!.token)) break;
  }
  return drafts;
}

/** Drafts in a row whose probability is at least `threshold` times the best token's. */
function countNear(judged: readonly Choice[], threshold: number): number {
  const far = judged.findIndex(({ logprob, alternatives }) => !(Math.exp(logprob - alternatives![0]!.logprob) >= threshold));
  return far < 0 ? judged.length : far;
}

/**
 * Self-speculative decoding of one lane: L drafts at depth d, then one pass at depth r over the last token and the drafts, whose logits
 * judge them all. Noise is keyed by position, so a draft is right exactly when the choice from the deep logits is the same token: the
 * text is that of plain decoding. When all drafts are right the last logits give one more token.
 */
export async function* decodeSpeculatively(engine: Engine, run: Run, lane: Lane): Strategy {
  const { cache } = engine;
  const depth = run.depth(0);
  const prompt = await prefill(engine, run, [lane]);
  const [first] = await chooseTokens(prompt.logits, [requestOf(lane)], run.sampling).finally(() => disposeThought(prompt));
  yield { lane, ...first!, recurrences: depth, drafted: false };
  while (!lane.done) {
    const base = lane.tokens.length - 1;
    const { choices, accepted } = await decodeRound(engine, run, lane);
    cache.truncate(base + choices.length, lane.sequence);
    for (const [i, choice] of choices.entries()) {
      const item: Produced = { lane, ...choice, recurrences: depth, drafted: i < accepted };
      yield item;
      if (lane.done) return;
    }
  }
}

/** Drafts and verifies: the accepted drafts, and where one was wrong, or free, the token behind them. */
async function decodeRound(engine: Engine, run: Run, lane: Lane): Promise<{ choices: readonly Choice[]; accepted: number }> {
  const { cache, tally } = engine;
  const { threshold, lookahead, draftRecurrences, reuseDrafts = false } = run.speculative!;
  // The reference verifies no token behind the last draft; where drafts are reused, that one has not run.
  const free = threshold === undefined && !reuseDrafts;
  const base = lane.tokens.length - 1;
  const room = lane.limit - (lane.tokens.length - lane.promptLength);
  const states: Tensor[] = [];
  let start: Tensor | undefined;
  let verified: Thought | undefined;
  try {
    const drafts = await draft(engine, run, lane, Math.min(lookahead, free ? room - 1 : room), states);
    const tokens = [lane.tokens[base]!, ...drafts].slice(0, free ? drafts.length + 1 : drafts.length);
    engine.signal?.throwIfAborted();
    if (reuseDrafts) start = concat(states, 1);
    else cache.truncate(base, lane.sequence);
    verified = await think(engine, {
      lanes: [lane],
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from(tokens, (_, i) => base + i),
      depth: run.depth(0),
      start,
      from: reuseDrafts ? draftRecurrences : 0,
      readout: 'all',
    });
    const requests = tokens.map((_, i) => requestOf(lane, drafts.slice(0, i)));
    const choices = await chooseTokens(verified.logits, requests, run.sampling);
    const judged =
      threshold === undefined
        ? undefined
        : await describeTokens(verified.logits, drafts, requests, { alternatives: Math.max(1, run.sampling.alternatives) });
    const wrong = drafts.findIndex((token, i) => choices[i]!.token !== token);
    const accepted = judged !== undefined ? countNear(judged, threshold!) : wrong < 0 ? drafts.length : wrong;
    tally.rounds++;
    tally.drafted += drafts.length;
    tally.accepted += accepted;
    const kept =
      judged?.map(({ alternatives, ...choice }) => (run.sampling.alternatives > 0 ? { ...choice, alternatives: alternatives! } : choice)) ??
      choices;
    return { choices: [...kept.slice(0, accepted), ...choices.slice(accepted, accepted + 1)], accepted };
  } finally {
    for (const state of states) state.dispose();
    start?.dispose();
    disposeThought(verified);
  }
}
