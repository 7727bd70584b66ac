import { embeddingAtFirst, finalNorm, type ModelFamily, ouro, ouroBlock, unchanged } from '@unroll/recurrent';

// #region family
/** All layers in the loop, as Ouro has them (arXiv 2510.25741): the state begins as the embedding, and every loop ends with the final norm. */
export const wholeStack: ModelFamily = {
  name: 'whole-stack',
  parts: { inject: embeddingAtFirst, block: ouroBlock, endLoop: finalNorm, enterCoda: unchanged, enterHead: unchanged },
  hasAdapter: false,
  // One linear layer, C to 1: the logit of stopping at a state, `model.exitLogits`.
  hasExitGate: true,
  // An offset of zeros from the embedding.
  defaults: { stateStd: 0 },
  blockShapes: ouro.blockShapes,
  // Checkpoints have the names of the parameter tree, and no tensor that is not in it.
  stored: (parameter) => [{ name: parameter }],
  unused: () => [],
};
// #endregion family
