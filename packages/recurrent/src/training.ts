import { type Pass, packedPass, packedPositions, uncachedPass } from '@unroll/nn';
import { checkpoint, crossEntropy, mul, OptionError, refuseUnknownOptions, sum, type Tensor, tidy, withoutGradient } from '@unroll/tensor';
import type { InitialState, RecurrentModel } from './model.js';

/** Sequences of tokens with what each token should be followed by: rows (B, T), or packed. */
export interface TrainingBatch {
  /** Sequences. */
  readonly batch: number;
  /** (B, T) row by row, or with `parents` packed. */
  readonly tokens: Int32Array;
  /** (B, T); `ignoreTarget` where nothing is to be learned. */
  readonly targets: Int32Array;
  /** (B, T), -1 for padding; 0, 1, 2, ... in each row when absent. */
  readonly positions?: Int32Array;
  /**
   * Packed without padding: of each token the place of the one before it in its sequence, -1 where one begins (`batch` times). Sequences
   * that begin alike may share tokens. Not together with `positions`.
   */
  readonly parents?: Int32Array;
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
  return tidy(model.device, () => meanOfCounted(tokenLosses(model, data, options), data));
}

/** Mean of token losses over the targets that count: a scalar. Throws OptionError where none does. */
export function meanOfCounted(losses: Tensor, data: TrainingBatch): Tensor {
  const counted = data.targets.reduce((count, target) => count + Number(target !== ignoreTarget), 0);
  if (counted === 0) throw new OptionError('training batch: every target is ignored; a batch needs one at least');
  return tidy(losses.device, () => mul(sum(losses), losses.device.tensor([1 / counted], [])));
}

/** What `trainingLoss` is the mean of: the cross-entropy at each token, in the shape of the batch on the device, 0 where the target is ignored. */
export function tokenLosses(model: RecurrentModel, data: TrainingBatch, options: TrainingLossOptions): Tensor {
  return unrollBatch(model, data, options, ({ states, entropy }) => entropy(states[states.length - 1]!));
}

/** A batch that has run, for losses of your own. Its tensors are the run's, and its functions take part in the gradient. */
export interface UnrolledBatch {
  /** s_n to s_{n+k} (B, T, C): gradients go back to the first, and not beyond it. */
  readonly states: readonly Tensor[];
  /** Cross-entropy (B, T) of what a state says next, 0 where the target is ignored. */
  readonly entropy: (state: Tensor) => Tensor;
  /** (B, T) f32: 1 where the target counts, 0 where it is ignored. */
  readonly counted: () => Tensor;
}

/**
 * Runs a batch as `trainingLoss` does, n recurrences without gradient and k with, and gives what `read` makes of its states; packed,
 * B is the number of tokens and T is 1. `read` is called once, inside `tidy`. Throws OptionError for sizes that do not fit, and bad depths.
 */
export function unrollBatch<R>(
  model: RecurrentModel,
  data: TrainingBatch,
  options: TrainingLossOptions,
  read: (run: UnrolledBatch) => R,
): R {
  refuseUnknownOptions('trainingLoss', options, ['n', 'k', 'initialState', 'recompute']);
  const { n, k, initialState, recompute = false } = options;
  const { device } = model;
  if (![n, k].every((count) => Number.isInteger(count) && count >= 0) || n + k < 1) {
    throw new OptionError(`trainingLoss: n and k must be whole numbers, 1 or more together; got ${n} and ${k}`);
  }
  const { open, shape, initial } = layoutOf(model, data);
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
      const states = [withoutGradient(device, () => unroll(model, e, start, n, pass))];
      for (let loop = n; loop < n + k; loop++) {
        const state = states[loop - n]!;
        states.push(recompute ? checkpoint(alone(loop), state, e) : model.step(e, state, loop, pass));
      }
      const targets = device.tensor(data.targets, shape, { dtype: 'i32' });
      return read({
        states,
        entropy: (state) => crossEntropy(model.readout(state, pass), targets, { ignoreIndex: ignoreTarget }),
        counted: () =>
          device.tensor(
            Float32Array.from(data.targets, (target) => Number(target !== ignoreTarget)),
            shape,
          ),
      });
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
  const { batch, tokens, targets, parents } = data;
  const size = tokens.length;
  if (parents === undefined) {
    const length = size / batch;
    if (!Number.isInteger(length) || targets.length !== size) {
      throw new OptionError(
        `training batch: ${size} tokens and ${targets.length} targets for ${batch} rows; each row needs as many of both`,
      );
    }
    const positions = data.positions ?? Int32Array.from(tokens, (_, i) => i % length);
    return { open: () => uncachedPass(model.device, batch, positions), shape: [batch, length], positions, initial: (state) => state };
  }
  const begins = parents.reduce((count, parent) => count + Number(parent < 0), 0);
  if (data.positions !== undefined || begins !== batch || parents.length !== size || targets.length !== size) {
    throw new OptionError(
      `training batch: ${batch} packed sequences, given ${size} tokens, ${targets.length} targets and ${parents.length} parents, of which ${begins} begin one; positions follow from the parents`,
    );
  }
  return {
    open: () => packedPass(model.device, parents),
    shape: [size, 1],
    positions: packedPositions(parents),
    initial(state) {
      if (state === undefined || 'storage' in state || typeof state.seed === 'number' || state.seed === undefined) return state;
      const { seed } = state;
      if (seed.length !== batch) throw new OptionError(`training batch: ${seed.length} seeds for ${batch} sequences`);
      let next = 0;
      const own: number[] = [];
      for (const parent of parents) own.push(parent < 0 ? seed[next++]! : own[parent]!);
      return { ...state, seed: own };
    },
  };
}
