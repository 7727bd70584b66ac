import { reshape, slice, type Tensor, tidy } from '@unroll/tensor';
import type { LanguageModel, ModelCache } from './language-model.js';

export interface DepthOptions {
  readonly recurrences: number;
  readonly seed: number | readonly number[];
  readonly initScale: number;
}

export interface Advanced {
  /** (B, V) of the last column. */
  readonly logits: Tensor<'f32'>;
  /** s_r (B, 1, C) of the last column. */
  readonly state: Tensor;
}

/** Runs tokens (B, T) at positions (B, T; -1 for padding) to depth r, from `start` (B, T, C) or a fresh state. The caller disposes the result. */
export function advance(
  model: LanguageModel,
  cache: ModelCache,
  tokens: Int32Array,
  positions: Int32Array,
  { recurrences, seed, initScale }: DepthOptions,
  start?: Tensor,
): Advanced {
  return tidy(model.device, () => {
    const pass = cache.begin(positions);
    try {
      const e = model.prelude(model.device.tensor(tokens, [cache.batch, pass.length], { dtype: 'i32' }), pass);
      let state = start ?? model.initialState(pass, { seed, scale: initScale });
      for (let loop = 0; loop < recurrences; loop++) {
        const next = model.step(e, state, loop, pass);
        if (state !== start) state.dispose();
        state = next;
      }
      const logits = reshape(model.readout(state, pass, { positions: 'last' }), [cache.batch, model.vocabularySize]) as Tensor<'f32'>;
      return { logits, state: slice(state, 1, pass.length - 1, pass.length) };
    } finally {
      pass.dispose();
    }
  });
}
