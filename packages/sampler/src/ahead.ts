import { reshape, type Tensor, tidy } from '@unroll/tensor';
import { readLogits, type Thought } from './call.js';
import { disposeThought, prefill, requestOf, type Strategy } from './plain.js';
import type { Engine, Lane, Run } from './run.js';
import { bestTokens, type Choice, choosesOnDevice, describeTokens } from './sampling.js';

/**
 * Whether the step behind a token may be enqueued before the host knows the token: where the device works on its own, nobody looks at
 * states in between, and what is enqueued does not depend on the token. A stop string is only seen in the text, so it forbids too.
 */
export function mayLookAhead({ model, hook }: Engine, run: Run): boolean {
  const plain = run.exit === undefined && run.speculative === undefined && run.wavefront === undefined && run.oneDepth;
  return plain && model.device.kind === 'webgpu' && hook === undefined && run.stopStrings.length === 0 && choosesOnDevice(run.sampling);
}

/** A token on its way from the device, with the step that its logits are from. */
interface Flight extends Pick<Thought, 'logits' | 'state'> {
  /** (1) */
  readonly token: Tensor<'i32'>;
  readonly choice: Promise<Choice>;
}

/** Starts the choice of the token at a position. */
function launch(run: Run, lane: Lane, position: number, { logits, state }: Pick<Thought, 'logits' | 'state'>): Flight {
  const request = { ...requestOf(lane), position };
  const token = bestTokens(logits, [request], run.sampling);
  const choice = describeTokens(logits, token, [request], run.sampling).then(([only]) => only!);
  // Whoever is behind waits for it later, or never, when the one before it was the last.
  choice.catch(() => {});
  return { logits, state, token, choice };
}

/** Enqueues the step of a token that the device alone knows, at `position`, and the choice of the next one. */
function follow(engine: Engine, run: Run, lane: Lane, position: number, last: Flight): Flight {
  const { model, cache, tally, initScale } = engine;
  const depth = run.depth(position - lane.promptLength + 1);
  const pass = cache.begin(Int32Array.of(position), [lane.sequence]);
  try {
    const thought = tidy(model.device, () => {
      const e = model.prelude(reshape(last.token, [1, 1]), pass);
      let state: Tensor;
      if (run.warmStart === 'norm-state') state = model.normState(last.state);
      else if (run.warmStart === 'state') state = last.state;
      else state = model.initialState(pass, { seed: [lane.stateSeed], scale: initScale });
      if (model.steps !== undefined) state = model.steps(e, state, { from: 0, to: depth }, pass);
      else for (let loop = 0; loop < depth; loop++) state = model.step(e, state, loop, pass);
      return { logits: readLogits(engine, state, pass, 'last'), state };
    });
    tally.corePasses += depth;
    tally.corePositions += depth;
    return launch(run, lane, position + 1, thought);
  } finally {
    pass.dispose();
  }
}

function land(flight: Flight | undefined): void {
  disposeThought(flight as Thought | undefined);
  flight?.token.dispose();
}

/**
 * Plain decoding of one lane that never lets the device wait: while a token is on its way to the host, the step behind it is enqueued
 * already, from the token's copy on the device. The step behind a text's last token is taken back.
 */
export async function* decodeAhead(engine: Engine, run: Run, lane: Lane): Strategy {
  const { cache, tally } = engine;
  let position = lane.tokens.length;
  let flight: Flight | undefined = launch(run, lane, position, await prefill(engine, run, [lane]));
  let next: Flight | undefined;
  let gone: Flight | undefined;
  /** Takes back the step that was enqueued for the token at `position`. */
  const takeBack = () => {
    if (next === undefined) return;
    [gone, next] = [next, undefined];
    cache.truncate(position, lane.sequence);
    const depth = run.depth(position - lane.promptLength + 1);
    tally.corePasses -= depth;
    tally.corePositions -= depth;
  };
  try {
    for (; ; position++) {
      engine.signal?.throwIfAborted();
      if (position + 1 - lane.promptLength < lane.limit) next = follow(engine, run, lane, position, flight);
      const choice: Choice = await flight.choice;
      engine.signal?.throwIfAborted();
      if (run.stopTokens.has(choice.token)) takeBack();
      yield { lane, ...choice, recurrences: run.depth(position - lane.promptLength) };
      if (lane.done || next === undefined) return;
      land(flight);
      flight = next;
      next = undefined;
    }
  } finally {
    takeBack();
    land(flight);
    // Its read is on its way; bad values in it, behind a token that was none, must not be told to the next reader.
    await gone?.choice.catch(() => {});
    land(gone);
  }
}
