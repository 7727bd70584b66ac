import { type Pass, packedPass, uncachedPass } from '@unroll/nn';
import { checkpoint, crossEntropy, mul, OptionError, refuseUnknownOptions, sum, type Tensor, tidy, withoutGradient } from '@unroll/tensor';
import type { InitialState, RecurrentModel } from './model.js';

/** Sequences of tokens with what each token should be followed by: rows (B, T), or packed. */
export interface TrainingBatch {
  /** Sequences. */
  readonly batch: number;
  /** (B, T) row by row, or with `lengths` one sequence behind the other. */
  readonly tokens: Int32Array;
  /** (B, T); `ignoreTarget` where nothing is to be learned. */
  readonly targets: Int32Array;
  /** (B, T), -1 for padding; 0, 1, 2, ... in each row when absent. */
  readonly positions?: Int32Array;
  /** Tokens of each sequence: packed without padding. Not together with `positions`. */
  readonly lengths?: readonly number[];
}

/** A target that gives no loss. */
export const ignoreTarget = -1;

export interface TrainingDepth {
  /** Recurrences without gradient, then with. */
  readonly n: number;
  readonly k: number;
}

export interface TrainingLossOptions extends TrainingDepth {
  readonly initialState?: InitialState;
  /** Computes each recurrence again in the backward pass instead of keeping what is in it. */
  readonly recompute?: boolean;
}

/**
 * Mean cross-entropy of a batch after n recurrences without gradient and k with, for `valueAndGrad` over `model.params`: truncated
 * backpropagation as the paper trains (arXiv 2502.05171, section 3.3). The prelude gets its gradient through the k recurrences, which
 * all see e. Memory does not depend on n. Throws OptionError for a batch without targets, sizes that do not fit, and bad depths.
 */
export function trainingLoss(model: RecurrentModel, data: TrainingBatch, options: TrainingLossOptions): Tensor {
  refuseUnknownOptions('trainingLoss', options, ['n', 'k', 'initialState', 'recompute']);
  const { n, k, initialState, recompute = false } = options;
  const { device } = model;
  if (![n, k].every((count) => Number.isInteger(count) && count >= 0) || n + k < 1) {
    throw new OptionError(`trainingLoss: n and k must be whole numbers, 1 or more together; got ${n} and ${k}`);
  }
  const { open, shape, initial } = layoutOf(model, data);
  const counted = data.targets.reduce((count, target) => count + Number(target !== ignoreTarget), 0);
  if (counted === 0) throw new OptionError('training batch: every target is ignored; a batch needs one at least');
  return tidy(device, () => {
    const pass = open();
    // A recurrence that is computed again, long after this pass is gone, opens one of its own.
    const alone = (loop: number) => (from: Tensor, input: Tensor) => {
      const own = open();
      try {
        return model.step(input, from, loop, own);
      } finally {
        own.dispose();
      }
    };
    try {
      const e = model.prelude(device.tensor(data.tokens, shape, { dtype: 'i32' }), pass);
      const start = model.initialState(pass, initial(initialState));
      let state = withoutGradient(device, () => unroll(model, e, start, n, pass));
      for (let loop = n; loop < n + k; loop++) {
        state = recompute ? checkpoint(alone(loop), state, e) : model.step(e, state, loop, pass);
      }
      const each = crossEntropy(model.readout(state, pass), device.tensor(data.targets, shape, { dtype: 'i32' }), {
        ignoreIndex: ignoreTarget,
      });
      return mul(sum(each), device.tensor([1 / counted], []));
    } finally {
      pass.dispose();
    }
  });
}

function unroll(model: RecurrentModel, e: Tensor, start: Tensor, n: number, pass: Pass): Tensor {
  return tidy(model.device, () => {
    let state = start;
    for (let loop = 0; loop < n; loop++) {
      const next = model.step(e, state, loop, pass);
      if (state !== start) state.dispose();
      state = next;
    }
    return state;
  });
}

/** How a batch lies on the device. */
export interface BatchLayout {
  /** A new pass over the batch; the caller disposes it. */
  open(): Pass;
  /** Of tokens and targets. */
  readonly shape: readonly [number, number];
  /** Of each token, -1 for padding. */
  readonly positions: Int32Array;
  /** Seeds that are given one for each sequence, as the pass wants them. */
  initial(state: InitialState | undefined): InitialState | undefined;
}

/** Checks a batch and says how to run the model over it. Throws OptionError for sizes that do not fit. */
export function layoutOf(model: RecurrentModel, data: TrainingBatch): BatchLayout {
  const { batch, tokens, targets, lengths } = data;
  const size = tokens.length;
  if (lengths === undefined) {
    const length = size / batch;
    if (!Number.isInteger(length) || targets.length !== size) {
      throw new OptionError(
        `training batch: ${size} tokens and ${targets.length} targets for ${batch} rows; each row needs as many of both`,
      );
    }
    const positions = data.positions ?? Int32Array.from(tokens, (_, i) => i % length);
    return { open: () => uncachedPass(model.device, batch, positions), shape: [batch, length], positions, initial: (state) => state };
  }
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (data.positions !== undefined || lengths.length !== batch || total !== size || targets.length !== size) {
    throw new OptionError(
      `training batch: ${batch} packed sequences of ${total} tokens together, given ${size} tokens, ${targets.length} targets and ${lengths.length} lengths; positions follow from the lengths`,
    );
  }
  return {
    open: () => packedPass(model.device, lengths),
    shape: [size, 1],
    positions: Int32Array.from(lengths.flatMap((length) => Array.from({ length }, (_, i) => i))),
    initial(state) {
      if (state === undefined || 'storage' in state || typeof state.seed === 'number' || state.seed === undefined) return state;
      const { seed } = state;
      if (seed.length !== batch) throw new OptionError(`training batch: ${seed.length} seeds for ${batch} sequences`);
      return { ...state, seed: lengths.flatMap((length, i) => new Array<number>(length).fill(seed[i]!)) };
    },
  };
}
