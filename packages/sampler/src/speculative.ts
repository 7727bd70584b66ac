import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
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
}

/** Throws OptionError. */
export function parseSpeculative(who: string, options: SpeculativeOptions | undefined, depth: number): SpeculativeOptions | undefined {
  if (options === undefined) return undefined;
  refuseUnknownOptions(`${who}: speculative`, options, ['draftRecurrences', 'lookahead', 'threshold']);
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

/** Drafts at small depth, one after the other, and rolls the cache back to where it was. */
async function draft(engine: Engine, run: Run, lane: Lane, most: number): Promise<number[]> {
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
    const [choice] = await chooseTokens(thought.logits, [requestOf(lane, drafts)], run.sampling).finally(() => disposeThought(thought));
    drafts.push(choice!.token);
    if (run.stopTokens.has(choice!.token)) break;
  }
  engine.cache.truncate(base, lane.sequence);
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
  const { cache, tally } = engine;
  const { threshold, lookahead } = run.speculative!;
  const depth = run.depth(0);
  const prompt = await prefill(engine, run, [lane]);
  const [first] = await chooseTokens(prompt.logits, [requestOf(lane)], run.sampling).finally(() => disposeThought(prompt));
  yield { lane, ...first!, recurrences: depth, drafted: false };
  while (!lane.done) {
    const base = lane.tokens.length - 1;
    const room = lane.limit - (lane.tokens.length - lane.promptLength);
    const drafts = await draft(engine, run, lane, Math.min(lookahead, threshold === undefined ? room - 1 : room));
    // The reference verifies no token behind the last draft when acceptance is approximate.
    const tokens = [lane.tokens[base]!, ...drafts].slice(0, threshold === undefined ? drafts.length + 1 : drafts.length);
    engine.signal?.throwIfAborted();
    const verified = await think(engine, {
      lanes: [lane],
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from(tokens, (_, i) => base + i),
      depth,
      readout: 'all',
    });
    let accepted: number;
    let choices: readonly Choice[];
    try {
      const requests = tokens.map((_, i) => requestOf(lane, drafts.slice(0, i)));
      choices = await chooseTokens(verified.logits, requests, run.sampling);
      if (threshold === undefined) {
        const wrong = drafts.findIndex((token, i) => choices[i]!.token !== token);
        accepted = wrong < 0 ? drafts.length : wrong;
      } else {
        const judged = await describeTokens(verified.logits, drafts, requests, Math.max(1, run.sampling.alternatives));
        accepted = countNear(judged, threshold);
        const plain = judged.map(({ alternatives, ...choice }) =>
          run.sampling.alternatives > 0 ? { ...choice, alternatives: alternatives! } : choice,
        );
        choices = [...plain.slice(0, accepted), ...choices.slice(accepted)];
      }
    } finally {
      disposeThought(verified);
    }
    tally.rounds++;
    tally.drafted += drafts.length;
    tally.accepted += accepted;
    const produced = choices.slice(0, accepted + 1);
    cache.truncate(base + produced.length, lane.sequence);
    for (const [i, choice] of produced.entries()) {
      const item: Produced = { lane, ...choice, recurrences: depth, drafted: i < accepted };
      yield item;
      if (lane.done) return;
    }
  }
}
