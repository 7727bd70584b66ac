import { OptionError, refuseUnknownOptions, reshape, type Tensor, tidy } from '@unroll/tensor';
import { type Call, Course, open } from './call.js';
import { checkShapes } from './check.js';
import type { LanguageModel, TextCodec } from './language-model.js';
import { between, promptTokens, whole } from './options.js';
import { pause, pauseDue } from './pause.js';
import { type Engine, emptyTally, newLane, type RecurrenceHook } from './run.js';
import { type Alternative, describeTokens } from './sampling.js';

export interface TraceOptions {
  readonly model: LanguageModel;
  readonly tokenizer?: TextCodec;
  readonly prompt: string | readonly number[];
  readonly recurrences?: number;
  readonly seed?: number;
  readonly initScale?: number;
  /** What is recorded: `norm-state` (the default) is ln_f(s_i), which enters the coda, `state` is s_i. */
  readonly record?: 'norm-state' | 'state';
  /** How many of the most likely next tokens to decode after every recurrence; 0 when absent. */
  readonly top?: number;
  /** Sees, and may replace, states and e around every recurrence: the path under an intervention. */
  readonly hook?: RecurrenceHook;
  readonly signal?: AbortSignal;
}

/** The path of every position through latent space. Letters: r recurrences, T positions, C width. */
export interface Trace {
  readonly tokens: readonly number[];
  readonly recurrences: number;
  readonly width: number;
  /** (r + 1, T, C): the initial state first. */
  readonly states: Float32Array;
  /** For each recurrence from 1 to r and each position the most likely next tokens, best first. */
  readonly top: readonly (readonly (readonly Alternative[])[])[];
}

/** Runs a text once and records its states. Throws OptionError. */
export async function trace(options: TraceOptions): Promise<Trace> {
  checkShapes('trace', options, ['model', 'prompt']);
  refuseUnknownOptions('trace', options, [
    'model',
    'tokenizer',
    'prompt',
    'recurrences',
    'seed',
    'initScale',
    'record',
    'top',
    'hook',
    'signal',
  ]);
  const { model, tokenizer, record = 'norm-state', signal } = options;
  if (record !== 'norm-state' && record !== 'state')
    throw new OptionError(`trace: record must be "norm-state" or "state"; got ${JSON.stringify(record)}`);
  const tokens = promptTokens('trace', model, tokenizer, options.prompt);
  const depth = whole('trace', 'recurrences (depth)', options.recurrences ?? model.meanRecurrence, 1, 65536);
  const seed = whole('trace', 'seed', options.seed ?? 0, 0, Number.MAX_SAFE_INTEGER);
  const top = whole('trace', 'top', options.top ?? 0, 0, model.vocabularySize);
  const initScale = between('trace', 'initScale', options.initScale ?? 1, 0, 1e6);
  const cache = model.createCache();
  const engine: Engine = { model, cache, initScale, hook: options.hook, signal, tally: emptyTally() };
  const lane = newLane(tokens, { seed });
  const call: Call = {
    lanes: [lane],
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(tokens, (_, i) => i),
    depth,
    readout: 'all',
  };
  const read: Float32Array[] = [];
  const decoded: Alternative[][][] = [];
  const requests = tokens.map((_, i) => ({ seed, position: i + 1, tokens, promptLength: tokens.length }));
  try {
    const { pass, e, state } = open(engine, call);
    const course = new Course(engine, pass, e, state);
    try {
      for (let loop = 0; ; loop++) {
        const seen = record === 'state' ? undefined : tidy(model.device, () => model.normState(course.state));
        read.push(((await (seen ?? course.state).data()) as Float32Array).slice());
        seen?.dispose();
        if (loop === depth) break;
        signal?.throwIfAborted();
        if (pauseDue()) await pause(signal);
        course.advance(loop);
        if (top === 0) continue;
        const logits = tidy(
          model.device,
          () => reshape(model.readout(course.state, pass), [tokens.length, model.vocabularySize]) as Tensor<'f32'>,
        );
        const described = await describeTokens(logits, tokens, requests, { alternatives: top }).finally(() => logits.dispose());
        decoded.push(described.map(({ alternatives }) => [...alternatives!]));
      }
    } finally {
      course.dispose();
      pass.dispose();
    }
  } finally {
    cache.dispose();
  }
  const width = read[0]!.length / tokens.length;
  const states = new Float32Array(read.length * read[0]!.length);
  read.forEach((values, i) => states.set(values, i * values.length));
  return { tokens, recurrences: depth, width, states, top: decoded };
}

/** A trace as named arrays, as a safetensors file holds them: `tokens` (T), `states` (r + 1, T, C). */
export function traceTensors({
  tokens,
  recurrences,
  width,
  states,
}: Trace): Map<string, { readonly shape: readonly number[]; readonly data: Float32Array | Int32Array }> {
  return new Map<string, { readonly shape: readonly number[]; readonly data: Float32Array | Int32Array }>([
    ['tokens', { shape: [tokens.length], data: Int32Array.from(tokens) }],
    ['states', { shape: [recurrences + 1, tokens.length, width], data: states }],
  ]);
}

/** norm(s_i - s_r) of every recurrence and position, (r + 1, T). */
export function distanceToFinal({ tokens, recurrences, width, states }: Trace): Float64Array {
  const step = tokens.length * width;
  const final = recurrences * step;
  return Float64Array.from({ length: (recurrences + 1) * tokens.length }, (_, at) => {
    const start = at * width;
    const end = final + (at % tokens.length) * width;
    let sum = 0;
    for (let c = 0; c < width; c++) sum += (states[start + c]! - states[end + c]!) ** 2;
    return Math.sqrt(sum);
  });
}

export interface PrincipalComponents {
  /** (k, C), of norm 1. */
  readonly components: readonly Float64Array[];
  /** Variance along each, largest first. */
  readonly variances: readonly number[];
  /** (r + 1, T, k) */
  readonly projections: Float64Array;
}

/** Principal components of all states of a trace, by power iteration with deflation. Throws OptionError. */
export function principalComponents({ width: C, states }: Trace, k: number): PrincipalComponents {
  whole('principalComponents', 'k', k, 1, C);
  const N = states.length / C;
  const centred = Float64Array.from(states);
  for (let c = 0; c < C; c++) {
    let mean = 0;
    for (let n = 0; n < N; n++) mean += states[n * C + c]! / N;
    for (let n = 0; n < N; n++) centred[n * C + c]! -= mean;
  }
  const project = (row: number, v: Float64Array) => {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += centred[row * C + c]! * v[c]!;
    return sum;
  };
  const components: Float64Array[] = [];
  const variances: number[] = [];
  for (let i = 0; i < k; i++) {
    let v = orthonormal(
      Float64Array.from({ length: C }, (_, c) => Math.cos((c + 1) * (i + 1))),
      components,
    );
    let variance = 0;
    for (let iteration = 0; iteration < 1000; iteration++) {
      const next = new Float64Array(C);
      for (let n = 0; n < N; n++) {
        const weight = project(n, v);
        for (let c = 0; c < C; c++) next[c]! += weight * centred[n * C + c]!;
      }
      const w = orthonormal(next, components);
      let change = 0;
      for (let c = 0; c < C; c++) change = Math.max(change, Math.abs(w[c]! - v[c]!));
      v = w;
      if (change < 1e-9) break;
    }
    for (let n = 0; n < N; n++) variance += project(n, v) ** 2 / N;
    components.push(v);
    variances.push(variance);
  }
  const projections = new Float64Array(N * k);
  for (let n = 0; n < N; n++) {
    for (const [i, v] of components.entries()) projections[n * k + i] = project(n, v);
  }
  return { components, variances, projections };
}

/** v without its parts along `others`, at norm 1; zero where nothing is left. */
function orthonormal(v: Float64Array, others: readonly Float64Array[]): Float64Array {
  const out = v.slice();
  for (const other of others) {
    const along = out.reduce((sum, x, c) => sum + x * other[c]!, 0);
    for (let c = 0; c < out.length; c++) out[c]! -= along * other[c]!;
  }
  let norm = 0;
  for (const x of out) norm += x * x;
  return norm > 0 ? out.map((x) => x / Math.sqrt(norm)) : out;
}
