import { type Pass, uncachedPass } from '@unroll/nn';
import { checkpoint, crossEntropy, mul, OptionError, refuseUnknownOptions, sum, type Tensor, tidy, withoutGradient } from '@unroll/tensor';
import type { InitialState, RecurrentModel } from './model.js';

/** Rows of tokens (B, T) with what each should be followed by. */
export interface TrainingBatch {
  readonly batch: number;
  /** (B, T) row by row. */
  readonly tokens: Int32Array;
  /** (B, T); `ignoreTarget` where nothing is to be learned. */
  readonly targets: Int32Array;
  /** (B, T), -1 for padding; 0, 1, 2, ... in each row when absent. */
  readonly positions?: Int32Array;
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
  const length = data.tokens.length / data.batch;
  if (![n, k].every((count) => Number.isInteger(count) && count >= 0) || n + k < 1)
    throw new OptionError(`trainingLoss: n and k must be whole numbers, 1 or more together; got ${n} and ${k}`);
  if (!Number.isInteger(length) || data.targets.length !== data.tokens.length) {
    throw new OptionError(
      `trainingLoss: ${data.tokens.length} tokens and ${data.targets.length} targets for ${data.batch} rows; each row needs as many of both`,
    );
  }
  const counted = data.targets.reduce((count, target) => count + Number(target !== ignoreTarget), 0);
  if (counted === 0) throw new OptionError('trainingLoss: every target is ignored; a batch needs one at least');
  const shape = [data.batch, length];
  return tidy(device, () => {
    const positions = data.positions ?? Int32Array.from(data.tokens, (_, i) => i % length);
    const pass = uncachedPass(device, data.batch, positions);
    // A recurrence that is computed again, long after this pass is gone, opens one of its own.
    const alone = (loop: number) => (from: Tensor, input: Tensor) => {
      const own = uncachedPass(device, data.batch, positions);
      try {
        return model.step(input, from, loop, own);
      } finally {
        own.dispose();
      }
    };
    try {
      const e = model.prelude(device.tensor(data.tokens, shape, { dtype: 'i32' }), pass);
      const start = model.initialState(pass, initialState);
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
