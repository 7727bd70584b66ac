export { selfAttention } from './blocks/attention.js';
export { llamaBlock } from './blocks/llama.js';
export { olmo2Block } from './blocks/olmo2.js';
export { embeddingAtFirst, ouroBlock } from './blocks/ouro.js';
export { sandwichBlock } from './blocks/sandwich.js';
export { type Fit, fitOf, fittingFormats, ModelSizeError } from './capacity.js';
export { ConfigError, checkRecurrences, headDim, type ParseConfigOptions, parseRecurrentConfig, type RecurrentConfig } from './config.js';
export { type Estimate, type EstimateOptions, type EstimateRates, estimate, largestDepth } from './estimate.js';
export { familyOf, llama, type ModelFamily, olmo2, ouro, sandwich } from './family.js';
export { beginPass, type ForwardOptions, forward, latentStates } from './forward.js';
export { type InitOptions, initModel, initParams } from './init.js';
export { type LoadModelOptions, loadRecurrentModel } from './load.js';
export { joinsQuantized } from './load-weight.js';
export { type MeasureRatesOptions, measureRates, measureToken } from './measure.js';
export { concatInjection, finalNorm, type InitialState, ownParams, RecurrentModel, type RecurrentParts, unchanged } from './model.js';
export {
  type BlockParams,
  type LoadParamsOptions,
  loadParams,
  type OwnParams,
  ParamsError,
  paramsFromNames,
  type RecurrentParams,
  type StoredPart,
  storedParts,
  type TensorSource,
  type WeightDType,
} from './params.js';
export type { RopeScaling } from './rope-scaling.js';
export { isMatrix, parameterShapes } from './shapes.js';
export {
  type BatchLayout,
  ignoreTarget,
  layoutOf,
  meanOfCounted,
  type TrainingBatch,
  type TrainingDepth,
  type TrainingLossOptions,
  tokenLosses,
  trainingLoss,
  type UnrolledBatch,
  unrollBatch,
} from './training.js';
