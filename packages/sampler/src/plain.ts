import { type Tensor, tidy } from '@unroll/tensor';
import { type Thought, takeRows } from './call.js';
import type { ExitRecord } from './exit.js';
import type { Engine, Lane, Run } from './run.js';
import { type Choice, chooseTokens, type Request } from './sampling.js';
import { think } from './think.js';

/** A token that a strategy decided on. The consumer appends it to the lane before it asks for the next. */
export interface Produced extends Choice {
  readonly lane: Lane;
  /** Depth that the logits behind the token were computed with. */
  readonly recurrences: number;
  readonly exit?: ExitRecord | undefined;
  /** Speculative decoding: a draft that verification accepted, or not a draft. */
  readonly drafted?: boolean;
}

/** A way of decoding: ends by itself when every lane is done. */
export type Strategy = AsyncGenerator<Produced, void, void>;

export const requestOf = (lane: Lane, drafts: readonly number[] = []): Request => ({
  seed: lane.seed,
  position: lane.tokens.length + drafts.length,
  tokens: drafts.length === 0 ? lane.tokens : [...lane.tokens, ...drafts],
  promptLength: lane.promptLength,
});

export function disposeThought(thought: Thought | undefined): void {
  thought?.logits.dispose();
  thought?.state.dispose();
}

/**
 * Runs what the cache lacks of the lanes' prompts, padded on the left to the longest, in passes of `prefillChunk` columns; lanes whose
 * part of a pass is all padding stay out of it. Gives the logits and states behind the last column.
 */
export async function prefill(engine: Engine, run: Run, lanes: readonly Lane[]): Promise<Thought> {
  const { cache } = engine;
  for (const lane of lanes) cache.markDecoded(lane.promptLength, lane.sequence);
  const have = lanes.map((lane) => cache.length(lane.sequence));
  const T = Math.max(...lanes.map((lane, i) => lane.promptLength - have[i]!));
  const inPrefill = run.exit?.inPrefill ?? false;
  let thought: Thought | undefined;
  for (let start = 0; start < T; start += run.prefillChunk) {
    engine.signal?.throwIfAborted();
    disposeThought(thought);
    thought = undefined;
    const end = Math.min(T, start + run.prefillChunk);
    const rows = lanes.flatMap((lane, i) => {
      const first = T - (lane.promptLength - have[i]!);
      const positions = Array.from({ length: end - start }, (_, column) =>
        start + column < first ? -1 : have[i]! + start + column - first,
      );
      return end <= first ? [] : [{ lane, positions }];
    });
    thought = await think(engine, {
      lanes: rows.map(({ lane }) => lane),
      tokens: Int32Array.from(
        rows.flatMap(({ lane, positions }) => positions.map((position) => (position < 0 ? 0 : lane.tokens[position]!))),
      ),
      positions: Int32Array.from(rows.flatMap(({ positions }) => positions)),
      depth: run.depth(0),
      exit: inPrefill === false ? undefined : run.exit,
      byPosition: inPrefill === 'positions',
      readout: 'last',
    });
    for (const [i, { lane, positions }] of rows.entries()) {
      const own = positions.filter((position) => position >= 0);
      lane.promptRecurrences.push(...(thought.positionDepths?.[i] ?? own.map(() => thought!.depths[i]!)));
    }
    // The device works on a chunk while the next is enqueued; the last one goes up with the choice of the token behind it.
    if (end < T) engine.model.device.flush();
  }
  return thought!;
}

/** Rows of a thought in the order given. Disposes the thought. */
function pick(thought: Thought, rows: readonly number[]): Thought {
  if (rows.length === thought.depths.length && rows.every((row, i) => row === i)) return thought;
  try {
    return {
      ...tidy(thought.logits.device, () => ({ logits: takeRows(thought.logits, rows), state: takeRows(thought.state, rows) })),
      depths: rows.map((row) => thought.depths[row]!),
      exits: rows.map((row) => thought.exits[row]),
    };
  } finally {
    disposeThought(thought);
  }
}

/** Runs the newest token of each lane, from a fresh state or from where the last one ended. Disposes `last`. */
async function step(engine: Engine, run: Run, lanes: readonly Lane[], index: number, last: Thought): Promise<Thought> {
  const { model } = engine;
  let start: Tensor | undefined;
  try {
    last.logits.dispose();
    if (run.warmStart === 'norm-state') start = tidy(model.device, () => model.normState(last.state));
    else if (run.warmStart === 'state') start = last.state;
    return await think(engine, {
      lanes,
      tokens: Int32Array.from(lanes, (lane) => lane.tokens[lane.tokens.length - 1]!),
      positions: Int32Array.from(lanes, (lane) => lane.tokens.length - 1),
      depth: run.depth(index),
      exit: run.exit,
      start,
      readout: 'last',
    });
  } finally {
    start?.dispose();
    last.state.dispose();
  }
}

/**
 * One token after the other at fixed depth, depth by token, or with adaptive exit; with or without warm start. Lanes that are done
 * leave the batch. `leaders` names for each lane the lane whose prefill it shares.
 */
export async function* decodePlain(
  engine: Engine,
  run: Run,
  lanes: readonly Lane[],
  leaders: readonly number[] = lanes.map((_, i) => i),
): Strategy {
  const first = [...new Set(leaders)];
  let thought: Thought | undefined = await prefill(
    engine,
    run,
    first.map((leader) => lanes[leader]!),
  );
  try {
    lanes.forEach((lane, i) => {
      if (leaders[i] !== i) engine.cache.copySequence(lanes[leaders[i]!]!.sequence, lane.sequence);
    });
    thought = pick(
      thought,
      leaders.map((leader) => first.indexOf(leader)),
    );
    let live = lanes;
    for (let index = 1; ; index++) {
      engine.signal?.throwIfAborted();
      const choices = await chooseTokens(
        thought.logits,
        live.map((lane) => requestOf(lane)),
        run.sampling,
      );
      for (const [i, lane] of live.entries()) {
        yield { lane, ...choices[i]!, recurrences: thought.depths[i]!, exit: thought.exits[i] };
      }
      const rows = live.flatMap((lane, i) => (lane.done ? [] : [i]));
      if (rows.length === 0) return;
      engine.signal?.throwIfAborted();
      live = rows.map((row) => live[row]!);
      const last = pick(thought, rows);
      thought = undefined;
      thought = await step(engine, run, live, index, last);
    }
  } finally {
    disposeThought(thought);
  }
}
