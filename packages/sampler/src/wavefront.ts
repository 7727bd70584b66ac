import {
  add,
  affine,
  concat,
  mul,
  OptionError,
  randomKey,
  refuseUnknownOptions,
  reshape,
  slice,
  type Tensor,
  threefry2x32,
  tidy,
  UnrollError,
} from '@unroll/tensor';
import { Course } from './call.js';
import { pause, pauseDue } from './pause.js';
import { disposeThought, prefill, requestOf, type Strategy } from './plain.js';
import type { Engine, Lane, Run } from './run.js';
import { type Choice, chooseTokens } from './sampling.js';
import { type FreezeRule, freezeRules, lastSettled, measureStates, type StateWindow } from './wavefront-freeze.js';

export interface WavefrontOptions {
  /** Recurrences r' of the window in each round; 4 when absent. */
  readonly innerRecurrences?: number;
  /** Positions that the window grows by in each round; 1 when absent. */
  readonly headway?: number;
  /** Most positions in the window; 128 when absent. */
  readonly maxWavefront?: number;
  /** When positions become final; `latent-diff` when absent. */
  readonly freeze?: FreezeRule;
  /** Below this a position's latent has settled; 0.03 when absent. For the latent rules. */
  readonly threshold?: number;
  /** Share of the last round's embedded input that is mixed into this round's; 0.1 when absent. */
  readonly emaEmbeds?: number;
  /** Share of fresh noise beta mixed into states, divided by 1 + the recurrences that the position has had; 0.5 when absent. */
  readonly stateNoise?: number;
  /** New positions start from copies of the window's last states instead of fresh ones. */
  readonly continuous?: boolean;
  /** Rounds after which it gives up; 4098 when absent. */
  readonly maxRounds?: number;
}

const defaults = {
  innerRecurrences: 4,
  headway: 1,
  maxWavefront: 128,
  freeze: 'latent-diff',
  threshold: 0.03,
  emaEmbeds: 0.1,
  stateNoise: 0.5,
  continuous: false,
  maxRounds: 4098,
} as const;

/** Throws OptionError. */
export function parseWavefront(who: string, options: WavefrontOptions | undefined): WavefrontOptions | undefined {
  if (options === undefined) return undefined;
  refuseUnknownOptions(`${who}: wavefront`, options, Object.keys(defaults));
  const all = { ...defaults, ...options };
  for (const name of ['innerRecurrences', 'headway', 'maxWavefront', 'maxRounds'] as const) {
    if (!Number.isInteger(all[name]) || all[name] < 1)
      throw new OptionError(`${who}: wavefront.${name} must be a whole number from 1; got ${all[name]}`);
  }
  for (const name of ['emaEmbeds', 'stateNoise'] as const) {
    if (!(all[name] >= 0 && all[name] <= 1)) throw new OptionError(`${who}: wavefront.${name} must be from 0 to 1; got ${all[name]}`);
  }
  if (!(all.threshold >= 0)) throw new OptionError(`${who}: wavefront.threshold must be a number from 0; got ${all.threshold}`);
  if (!freezeRules.includes(all.freeze))
    throw new OptionError(`${who}: wavefront.freeze must be one of ${freezeRules.join(', ')}; got ${JSON.stringify(all.freeze)}`);
  return options;
}

/** Tokens of positions that no logits have reached yet, by (seed, position). */
const randomToken = (seed: number, position: number, V: number): number => threefry2x32(randomKey(seed, 'noise'), [position, 0])[0] % V;

/** A seed of its own for the noise of each round. */
function roundSeed(seed: number, round: number): number {
  const [low, high] = threefry2x32(randomKey(seed, 'noise'), [round, 1]);
  return low + (high % 2 ** 20) * 2 ** 32;
}

/** Columns `from` to `to` of a window (1, W, ...), by position. */
const columns = (window: StateWindow, from: number, to: number): Tensor => slice(window.tensor, 1, from - window.start, to - window.start);
const endOf = (window: StateWindow): number => window.start + window.tensor.shape[1]!;

interface Round {
  readonly e: StateWindow;
  /** States before the round (fresh ones included) and after it. */
  readonly before: StateWindow;
  readonly after: StateWindow;
  readonly logits: Tensor<'f32'>;
}

/** One round over positions c .. c + W - 1: embed, mix, recur, read. */
async function refine(
  engine: Engine,
  lane: Lane,
  tokens: readonly number[],
  W: number,
  last: { readonly e?: StateWindow | undefined; readonly states?: Tensor | undefined },
  noise: { readonly seed: number; readonly shares: readonly number[] },
  o: Required<WavefrontOptions>,
): Promise<Round> {
  const { model, cache, initScale, signal } = engine;
  const { device } = model;
  const c = cache.length(lane.sequence);
  const pass = cache.begin(
    Int32Array.from({ length: W }, (_, i) => c + i),
    [lane.sequence],
  );
  const made: Tensor[] = [];
  let course: Course | undefined;
  try {
    const { e, before, state } = tidy(device, () => {
      let e = model.prelude(device.tensor(tokens.slice(c, c + W), [1, W], { dtype: 'i32' }), pass);
      if (last.e !== undefined && o.emaEmbeds > 0) {
        const shared = Math.min(c + W, endOf(last.e)) - c;
        const mixed = add(
          affine(slice(e, 1, 0, shared), { scale: 1 - o.emaEmbeds }),
          affine(columns(last.e, c, c + shared), { scale: o.emaEmbeds }),
        );
        e = shared === W ? mixed : concat([mixed, slice(e, 1, shared, W)], 1);
      }
      const kept = last.states?.shape[1] ?? 0;
      const fresh = model.initialState(pass, { seed: [lane.stateSeed], scale: initScale });
      const before = kept === 0 ? fresh : kept === W ? last.states! : concat([last.states!, slice(fresh, 1, kept, W)], 1);
      if (o.stateNoise === 0) return { e, before, state: before };
      const other = model.initialState(pass, { seed: [noise.seed], scale: initScale });
      const share = device.tensor(noise.shares, [1, W, 1]);
      return { e, before, state: add(mul(before, affine(share, { scale: -1, shift: 1 })), mul(other, share)) };
    });
    if (before !== last.states) made.push(before);
    course = new Course(engine, pass, e, state, before);
    for (let loop = 0; loop < o.innerRecurrences; ) {
      signal?.throwIfAborted();
      if (pauseDue()) await pause(signal);
      loop = course.advanceSome(loop, o.innerRecurrences);
    }
    const { e: embedded, state: after } = course;
    const logits = tidy(device, () => reshape(model.readout(after, pass), [W, model.vocabularySize]) as Tensor<'f32'>);
    const round: Round = {
      e: { start: c, tensor: embedded },
      before: { start: c, tensor: before },
      after: { start: c, tensor: after },
      logits,
    };
    course = undefined;
    made.length = 0;
    return round;
  } finally {
    course?.dispose();
    for (const tensor of made) tensor.dispose();
    pass.dispose();
  }
}

/**
 * The wavefront sampler of one lane (arXiv 2510.14961): every round runs a window of unfinished tokens r' recurrences deeper, guesses
 * all their tokens anew, opens the window by `headway`, and freezes the positions that have settled. Differences from the published
 * code: states are compared at equal positions, a stop token ends the text as soon as it is frozen, the window never passes the
 * context's end, and `fixed` goes on when the window is full, where the published code would stand still.
 */
export async function* decodeWavefront(engine: Engine, run: Run, lane: Lane): Strategy {
  const { cache, tally, model } = engine;
  const o: Required<WavefrontOptions> = { ...defaults, ...run.wavefront };
  const depth = run.depth(0);
  const P = lane.promptLength;
  const prompt = await prefill(engine, run, [lane]);
  const [first] = await chooseTokens(prompt.logits, [requestOf(lane)], run.sampling).finally(() => disposeThought(prompt));
  const counts = new Array<number>(P + 1).fill(depth);
  tally.recurrencesPerPosition = counts.slice();
  tally.frozenInRound.push(0);
  yield { lane, ...first!, recurrences: depth };

  let current = [...lane.tokens];
  const choices: Choice[] = [];
  let frozen = P + 1;
  const stable: number[] = [];
  let W = 1;
  let states: Tensor | undefined;
  let lastE: StateWindow | undefined;
  let older: StateWindow | undefined;
  try {
    for (let round = 0; !lane.done; round++) {
      if (round >= o.maxRounds)
        throw new UnrollError(
          `wavefront: position ${frozen} has not settled in ${o.maxRounds} rounds; raise wavefront.threshold (${o.threshold}) or wavefront.maxRounds, lower wavefront.stateNoise (${o.stateNoise}), which keeps states moving, or set wavefront.freeze (${o.freeze}) to 'fixed', which always ends`,
        );
      const c = frozen - 1;
      const shares = Array.from({ length: W }, (_, i) => o.stateNoise / (1 + (counts[c + i] ?? 0)));
      const done = await refine(engine, lane, current, W, { e: lastE, states }, { seed: roundSeed(lane.stateSeed, round), shares }, o);
      if (states !== done.before.tensor) states?.dispose();
      states = undefined;
      lastE?.tensor.dispose();
      lastE = done.e;
      let unsettled: readonly number[];
      let guesses: readonly Choice[];
      try {
        for (let i = 0; i < W; i++) counts[c + i] = (counts[c + i] ?? 0) + o.innerRecurrences;
        const requests = Array.from({ length: W }, (_, i) => ({
          seed: lane.seed,
          position: c + i + 1,
          tokens: current.slice(0, c + i + 1),
          promptLength: P,
        }));
        guesses = await chooseTokens(done.logits, requests, run.sampling);
        unsettled = await measureStates(o.freeze, done.before, done.after, older);
        older?.tensor.dispose();
        older = done.before;
        const settled = [...current.slice(0, frozen), ...guesses.slice(0, -1).map(({ token }) => token)];
        current.forEach((token, j) => {
          stable[j] = (stable[j] ?? 0) + (token === settled[j] ? 1 : 0);
        });
        guesses.forEach((choice, i) => {
          choices[c + 1 + i] = choice;
        });
        const ahead = Array.from({ length: o.headway - 1 }, (_, i) => randomToken(lane.seed, c + W + 1 + i, model.vocabularySize));
        const steps = Math.floor(depth / o.innerRecurrences);
        const freezing = o.freeze === 'fixed' && round > steps;
        const beyond = Math.max(0, model.contextLength - c - W);
        let grow = Math.min(o.headway, Math.max(0, o.maxWavefront - W), beyond);
        const fixed = grow > 0 ? grow : Math.min(o.headway, W);
        if (freezing && grow === 0) grow = Math.min(fixed, beyond);
        const most = W + grow;
        current = [...current.slice(0, frozen), ...guesses.map(({ token }) => token), ...ahead].slice(0, c + most);
        const before = frozen;
        if (o.freeze === 'fixed') frozen += freezing ? fixed : 0;
        else
          frozen += lastSettled(
            W,
            o.freeze === 'token-stability' ? (i) => (stable[c + i] ?? 0) > steps : (i) => unsettled[i]! < o.threshold,
          );
        frozen = Math.min(frozen, current.length);
        const dropped = frozen - before;
        cache.truncate(frozen - 1, lane.sequence);
        const next = most - dropped;
        states = tidy(model.device, () => {
          const kept = slice(done.after.tensor, 1, dropped, W);
          const opened = next - (W - dropped);
          if (!o.continuous || opened <= 0) return kept;
          const copies = Array.from({ length: opened }, (_, i) => Math.max(0, W - opened + i));
          return concat([kept, ...copies.map((i) => slice(done.after.tensor, 1, i, i + 1))], 1);
        });
        W = next;
        tally.rounds++;
        for (let i = 0; i < dropped; i++) tally.frozenInRound.push(round + 1);
        tally.recurrencesPerPosition = Array.from({ length: frozen }, (_, i) => counts[i] ?? 0);
      } finally {
        done.logits.dispose();
        done.after.tensor.dispose();
        if (older !== done.before) done.before.tensor.dispose();
      }
      for (let p = lane.tokens.length; p < frozen && !lane.done; p++) {
        // The reference's counter gives position P the prompt's recurrences too, which it has not run.
        yield { lane, ...choices[p]!, token: current[p]!, recurrences: counts[p - 1]! - (p - 1 === P ? depth : 0) };
      }
    }
  } finally {
    states?.dispose();
    lastE?.tensor.dispose();
    older?.tensor.dispose();
  }
}
