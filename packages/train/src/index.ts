export {
  checkMixture,
  drawFamilies,
  drawHeldOut,
  type Family,
  type PackedProblems,
  packDocuments,
  packProblems,
  type Reach,
  type TaskShare,
} from './batch.js';
export { optimizerNames, parseTrainingConfig, type TrainingConfig } from './config.js';
export {
  advance,
  beginCurriculum,
  type CurriculumConfig,
  type CurriculumState,
  checkCurriculum,
  type PlannedLevels,
  weightScale,
} from './curriculum.js';
export { checkDepth, type DepthConfig, depthAt, depthKinds } from './depth.js';
export { checkHarder, type HarderConfig, type HarderResult, testHarder } from './harder.js';
export { type DepthLoss, lossByDepth, measureStates, type StateMetrics, solvedByDepth, stateMetrics } from './metrics.js';
export { crossEntropyObjective, type Objective, type ObjectiveLosses } from './objective.js';
export { type Purpose, Random } from './random.js';
export { documentEnd, type TextConfig, TextRows } from './rows.js';
export { ResumeError, resumeTraining, saveModel, saveTraining } from './state.js';
export { familyFor, isHeldOut, type Problem, problemFor, type Task } from './tasks/task.js';
export { addition, chain, parity, permutation, pointer, pointerMarked, tasks } from './tasks/tasks.js';
export { encodeText, endToken, padToken, tokenizerFiles, vocabularySize } from './text.js';
export { DivergedError, type StepResult, Trainer, type TrainerOptions } from './trainer.js';
