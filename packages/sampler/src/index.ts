export { type AgreementOptions, agreement, type TokenAgreement } from './agreement.js';
export { type Collected, collect } from './collect.js';
export type { Finish, GeneratedToken } from './emit.js';
export {
  type CheckedExit,
  type CustomExitOptions,
  customExit,
  type ExitControls,
  type ExitInPrefill,
  type ExitReading,
  type ExitRecord,
  type ExitRule,
  type ExitTest,
  type ExitView,
  type MeasuredExit,
} from './exit.js';
export {
  acceleration,
  argmaxStability,
  cosine,
  type ExitRuleName,
  type ExitRuleOptions,
  entropyDiff,
  exitRule,
  exitRuleNames,
  kl,
  latentDiff,
  minpKl,
  qExit,
} from './exit-rules.js';
export { type GenerateOptions, generate } from './generate.js';
export { type BatchOptions, type BatchToken, generateBatch } from './generate-batch.js';
export type {
  CacheJournal,
  CacheUsage,
  CacheUse,
  InitialStateSource,
  LanguageModel,
  ModelCache,
  ModelPass,
  SavedCache,
  TextCodec,
} from './language-model.js';
export type { CommonOptions } from './options.js';
export type { LogitsContext, LogitsProcessor } from './penalties.js';
export { generateRecovering, type RecoveringOptions } from './recover.js';
export type { DepthByToken, Intervention, RecurrenceEvent, RecurrenceHook, RecurrenceListener, RunReport, WarmStart } from './run.js';
export type { Alternative } from './sampling.js';
export { type RequestOptions, Scheduler, type SchedulerOptions } from './scheduler.js';
export { type Score, type ScoredToken, type ScoreOptions, score } from './score.js';
export { type CachedToken, type SavedSession, Session, type SessionOptions, type TurnOptions } from './session.js';
export type { SpeculativeOptions } from './speculative.js';
export { type TargetDepthOptions, targetDepth } from './target-depth.js';
export {
  distanceToFinal,
  type PrincipalComponents,
  principalComponents,
  type Trace,
  type TraceOptions,
  trace,
  traceTensors,
} from './trace.js';
export type { WavefrontOptions } from './wavefront.js';
export { type FreezeRule, freezeRules } from './wavefront-freeze.js';
