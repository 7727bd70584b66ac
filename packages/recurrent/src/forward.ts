import { type KVCache, type Pass, uncachedPass } from '@unroll/nn';
import { OptionError, refuseUnknownOptions, type Tensor, tidy } from '@unroll/tensor';
import { checkRecurrences } from './config.js';
import type { InitialState, RecurrentModel } from './model.js';

export interface ForwardOptions {
  /** Depth r; the model's mean when absent. */
  readonly recurrences?: number;
  readonly initialState?: InitialState;
  /** Appends to this cache; without one, queries see the tokens of this call alone. */
  readonly cache?: KVCache;
  /** (B, T) row by row, -1 for padding; each sequence goes on where the cache ends when absent. */
  readonly positions?: Int32Array;
}

const isRow = (row: unknown): boolean => Array.isArray(row) || ArrayBuffer.isView(row);

const shown = (value: unknown): string =>
  Array.isArray(value) ? `[${value.slice(0, 3).join(', ')}${value.length > 3 ? ', …' : ''}]` : typeof value;

/** Token rows of equal length as one array; throws OptionError for rows of other lengths or none, and for what is no token. */
function flatten(tokens: readonly (readonly number[])[]): { flat: Int32Array; batch: number; length: number } {
  if (!Array.isArray(tokens) || !tokens.every(isRow)) {
    throw new OptionError(`forward: tokens must be rows of token ids, one row a sequence, such as [[15, 56, 114]]; got ${shown(tokens)}`);
  }
  const length = tokens[0]?.length ?? 0;
  if (length === 0) throw new OptionError('forward: needs at least one token');
  const other = tokens.findIndex((row) => row.length !== length);
  if (other >= 0)
    throw new OptionError(
      `forward: all rows must have ${length} tokens; row ${other} has ${tokens[other]!.length}. Pad on the left and give positions -1 there`,
    );
  const flat = tokens.flatMap((row) => Array.from(row));
  const bad = flat.findIndex((token) => !Number.isInteger(token));
  if (bad >= 0)
    throw new OptionError(
      `forward: token ids must be whole numbers; token ${bad % length} of row ${Math.floor(bad / length)} is ${flat[bad]}`,
    );
  return { flat: Int32Array.from(flat), batch: tokens.length, length };
}

/** Opens a pass and puts the tokens (B, T) on the device. */
export function beginPass(
  model: RecurrentModel,
  tokens: readonly (readonly number[])[],
  options: Pick<ForwardOptions, 'cache' | 'positions'>,
): { pass: Pass; input: Tensor } {
  const { flat, batch, length } = flatten(tokens);
  const { cache } = options;
  if (cache !== undefined && cache.batch !== batch)
    throw new OptionError(`forward: ${batch} rows of tokens for a cache of ${cache.batch} sequences; they must be equal`);
  const positions = options.positions ?? Int32Array.from(flat, (_, i) => (cache?.length(Math.floor(i / length)) ?? 0) + (i % length));
  if (positions.length !== flat.length) throw new OptionError(`forward: ${positions.length} positions for ${flat.length} tokens`);
  const beyond = positions.find((position) => position >= model.contextLength);
  if (beyond !== undefined) {
    throw new OptionError(`forward: position ${beyond} is beyond the context of ${model.contextLength} tokens; shorten the input`);
  }
  const pass = cache === undefined ? uncachedPass(model.device, batch, positions) : cache.begin(positions);
  return { pass, input: model.device.tensor(flat, [batch, length], { dtype: 'i32' }) };
}

/**
 * Logits (B, T, V) after r recurrences: the one forward for training-like, prefill and decode calls. The caller disposes the result.
 * Throws OptionError for bad depths, ragged rows or positions beyond the context.
 */
export function forward(model: RecurrentModel, tokens: readonly (readonly number[])[], options: ForwardOptions = {}): Tensor<'f32'> {
  refuseUnknownOptions('forward', options, ['recurrences', 'initialState', 'cache', 'positions']);
  const r = options.recurrences ?? model.meanRecurrence;
  checkRecurrences('forward', r);
  return tidy(model.device, () => {
    const { pass, input } = beginPass(model, tokens, options);
    try {
      const e = model.prelude(input, pass);
      const state = model.initialState(pass, options.initialState);
      return model.readout(model.steps(e, state, { from: 0, to: r }, pass), pass);
    } finally {
      pass.dispose();
    }
  });
}

/**
 * The latent state s_1, s_2, ... (B, T, C), before ln_f, after every recurrence, for as long as the caller goes on, at most `recurrences`
 * times. Each state is the iterator's: it is freed when the next one is asked for, so read or copy it first.
 */
export async function* latentStates(
  model: RecurrentModel,
  tokens: readonly (readonly number[])[],
  options: ForwardOptions = {},
): AsyncGenerator<{ readonly recurrence: number; readonly state: Tensor; readonly pass: Pass }> {
  refuseUnknownOptions('latentStates', options, ['recurrences', 'initialState', 'cache', 'positions']);
  const r = options.recurrences ?? model.meanRecurrence;
  checkRecurrences('latentStates', r);
  const { pass, input } = beginPass(model, tokens, options);
  const owned: Tensor[] = [input];
  try {
    const e = model.prelude(input, pass);
    owned.push(e);
    let state = model.initialState(pass, options.initialState);
    if (state !== options.initialState) owned.push(state);
    for (let loop = 0; loop < r; loop++) {
      state = model.step(e, state, loop, pass);
      owned[2]?.dispose();
      owned[2] = state;
      yield { recurrence: loop + 1, state, pass };
    }
  } finally {
    for (const tensor of owned) tensor.dispose();
    pass.dispose();
  }
}
