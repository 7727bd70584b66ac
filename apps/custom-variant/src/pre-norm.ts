import { gatedMlp, type LayerCall, type Pass } from '@unroll/nn';
import {
  type BlockParams,
  finalNorm,
  llama,
  type ModelFamily,
  ownParams,
  type RecurrentModel,
  sandwich,
  selfAttention,
  unchanged,
} from '@unroll/recurrent';
import { add, concatMatmul, mul, rmsNorm, sigmoid, sub, type Tensor } from '@unroll/tensor';

// Letters: B batch, T length, C width. States, e and what goes through blocks are (B, T, C).

// #region block
/** Norms in front of attention and MLP, and none behind them; Huginn has both. */
export function preNormBlock(model: RecurrentModel, params: BlockParams, x: Tensor, call: LayerCall, pass: Pass): Tensor {
  const norm = ({ weight }: { weight: Tensor }, input: Tensor) => rmsNorm(input, weight, { eps: model.config.normEps });
  const y = add(x, selfAttention(model, params.attn, norm(params.norm_1, x), call, pass));
  return add(y, gatedMlp(params.mlp, norm(params.norm_2, y)));
}
// #endregion block

// #region injections
/** x = s + e */
export const addInjection = (_: RecurrentModel, state: Tensor, e: Tensor): Tensor => add(state, e);

/** x = g s + (1 - g) e with g = sigmoid(W [s ; e] + b), a gate for each channel. */
export function gatedInjection(model: RecurrentModel, state: Tensor, e: Tensor): Tensor {
  const { weight, bias } = ownParams(model, 'gate');
  const gate = sigmoid(add(concatMatmul(state, e, weight), bias!));
  return add(e, mul(gate, sub(state, e)));
}
// #endregion injections

export const injections = ['add', 'gated'] as const;
export type Injection = (typeof injections)[number];

// #region family
/** Pre-norm blocks, another injection, and a norm at the end of every loop. How long the prelude is, is the config's affair. */
export const preNorm = (injection: Injection): ModelFamily => ({
  ...sandwich,
  name: `pre-norm-${injection}`,
  parts: {
    inject: injection === 'gated' ? gatedInjection : addInjection,
    block: preNormBlock,
    // Nothing bounds a pre-norm state that goes round: the norm that Huginn has behind the last loop moves into the loop.
    endLoop: finalNorm,
    enterCoda: unchanged,
    // None of these look at the loop's number, so a loop may be recorded once and replayed.
    recordable: true,
  },
  hasAdapter: false,
  // Two norms a block, as in Llama.
  blockShapes: llama.blockShapes,
  ownShapes: ({ width: C }) => (injection === 'gated' ? { 'gate.weight': [C, 2 * C], 'gate.bias': [C] } : {}),
});
// #endregion family
