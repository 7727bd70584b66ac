export { accumulateMean, clipByGlobalNorm, globalNorm } from './optim/clip.js';
export { Ema } from './optim/ema.js';
export { Optimizer, type OptimizerStep, type ParameterGroup } from './optim/optimizer.js';
export {
  type AdamWOptions,
  adamw,
  type EllisAdamOptions,
  ellisAdam,
  type MuonOptions,
  muon,
  orthogonalize,
  type StepInfo,
  type UpdateRule,
} from './optim/rules.js';
export { checkSchedule, learningRateAt, type Schedule } from './optim/schedule.js';
