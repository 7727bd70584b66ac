export { ConfigError, checkRecurrences, headDim, type ParseConfigOptions, parseRecurrentConfig, type RecurrentConfig } from './config.js';
export { beginPass, type ForwardOptions, forward, latentStates } from './forward.js';
export { initParams } from './init.js';
export { type LoadModelOptions, loadRecurrentModel } from './load.js';
export { concatInjection, type InitialState, RecurrentModel, type RecurrentParts, sandwichBlock, selfAttention } from './model.js';
export {
  type BlockParams,
  type LoadParamsOptions,
  loadParams,
  ParamsError,
  parameterShapes,
  paramsFromNames,
  type RecurrentParams,
  type TensorSource,
} from './params.js';
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
} from './training.js';
