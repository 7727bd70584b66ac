import type { RunSettings, SharedSettings } from '../state/settings.js';

/** Where a model comes from. Files travel as Blobs, which costs no copy. */
export type ModelSource =
  | { readonly kind: 'embedded'; readonly name: string }
  | { readonly kind: 'files'; readonly name: string; readonly files: readonly { readonly name: string; readonly blob: Blob }[] }
  | { readonly kind: 'stored'; readonly id: string }
  | { readonly kind: 'trained' };

export type DeviceWish = 'auto' | 'cpu' | 'webgpu';

export interface DeviceInfo {
  readonly kind: 'cpu' | 'webgpu';
  /** Why this device, in a sentence for people. */
  readonly reason: string;
  /** The device's own description. */
  readonly description: string;
  readonly threads: number;
  readonly isolated: boolean;
  readonly gpu: 'hardware' | 'software' | 'none';
}

export interface Example {
  readonly prompt: string;
  readonly answer: string;
  readonly task: string;
}

export interface ModelInfo {
  readonly name: string;
  readonly source: ModelSource['kind'];
  readonly parameters: number;
  readonly weightBytes: number;
  readonly width: number;
  readonly heads: number;
  readonly layers: { readonly prelude: number; readonly core: number; readonly coda: number };
  readonly contextLength: number;
  readonly vocabularySize: number;
  readonly meanRecurrence: number;
  readonly maxNewTokens: number;
  readonly hasTokenizer: boolean;
  readonly hasTemplate: boolean;
  /** Whether it says by itself when to stop: the rule `q-exit`. */
  readonly hasExitGate: boolean;
  readonly examples: readonly Example[];
  /** The first paragraph of the model card. */
  readonly about: string;
  /** Bytes of keys and values that one layer call stores for a token. */
  readonly kvBytesPerCall: number;
  /** Parameters that a recurrence runs through. */
  readonly coreParameters: number;
}

export interface TokenItem {
  readonly token: number;
  readonly text: string;
  /** The token as it is written in the vocabulary, for tokens that give no text. */
  readonly label: string;
  readonly logprob: number;
  readonly recurrences: number;
  readonly alternatives: readonly LabelledToken[];
  readonly exit?: { readonly rule: string; readonly values: readonly number[]; readonly stopped: boolean };
  readonly drafted?: boolean;
  /** Milliseconds since the run began. */
  readonly at: number;
  /** Runs of the core so far, the prompt's included. */
  readonly corePasses: number;
  /** Keys and values that the tokens so far have. */
  readonly kvBytes: number;
}

export interface LabelledToken {
  readonly label: string;
  readonly p: number;
}

/** One round of the wavefront: positions `start` to `start + width - 1` were refined. */
export interface WavefrontRound {
  readonly start: number;
  readonly width: number;
}

export interface RunSummary {
  readonly prompt: readonly number[];
  readonly tokens: readonly number[];
  /** Every token of prompt and answer as people read it. */
  readonly labels: readonly string[];
  readonly text: string;
  readonly finish: string;
  readonly milliseconds: number;
  readonly tokensPerSecond: number;
  readonly meanRecurrences: number;
  readonly corePasses: number;
  readonly corePositions: number;
  readonly cachedTokens: number;
  readonly kvBytes: number;
  readonly kvSlots: number;
  readonly speculation?: { readonly drafted: number; readonly accepted: number };
  readonly wavefront?: { readonly rounds: readonly WavefrontRound[]; readonly recurrences: readonly number[] };
  readonly recovered: number;
}

/** What every recurrence does to every position of a text. */
export interface TraceResult {
  readonly recurrences: number;
  readonly positions: number;
  /** |s_i - s_{i-1}| / |s_i| for i = 1..r, (r, T) row by row. */
  readonly change: Float32Array;
  /** For each recurrence and position the most likely next tokens. */
  readonly top: readonly (readonly (readonly LabelledToken[])[])[];
  readonly milliseconds: number;
}

export type MotionKind = 'fixed point' | 'orbit' | 'slider' | 'still moving';

export interface PathInfo {
  readonly position: number;
  readonly seed: number;
  /** (r + 1, 2) */
  readonly points: Float32Array;
  readonly kind: MotionKind;
  /** Relative change of the last recurrence. */
  readonly lastChange: number;
}

export interface TrajectoryResult {
  readonly paths: readonly PathInfo[];
  /** Shares of the variance that the two axes carry. */
  readonly explained: readonly [number, number];
  /** For each position: largest distance between the ends of its seeds, relative to the mean norm of the ends. */
  readonly spread: readonly { readonly position: number; readonly value: number }[];
}

export interface LabRow {
  readonly recurrence: number;
  readonly change: number;
  readonly norm: number;
  readonly top: readonly LabelledToken[];
}

/** What was done to a thought, in order. */
export type LabAction =
  | { readonly kind: 'noise'; readonly at: number; readonly amount: number; readonly seed: number }
  | { readonly kind: 'swap'; readonly at: number; readonly prompt: string };

export interface LabState {
  readonly id: number;
  readonly prompt: string;
  readonly labels: readonly string[];
  readonly recurrence: number;
  readonly rows: readonly LabRow[];
  readonly actions: readonly LabAction[];
}

export interface TrainArgs {
  readonly tasks: readonly string[];
  readonly level: number;
  readonly width: number;
  readonly batch: number;
  readonly meanDepth: number;
  readonly rate: number;
  readonly steps: number;
  readonly seed: number;
  readonly device: 'cpu' | 'webgpu';
}

export type TrainItem =
  | { readonly kind: 'step'; readonly step: number; readonly loss: number; readonly depth: number; readonly tokensPerSecond: number }
  | {
      readonly kind: 'accuracy';
      readonly step: number;
      readonly depths: readonly number[];
      readonly accuracy: readonly number[];
      readonly loss: readonly number[];
    };

export interface DownloadProgress {
  readonly file: string;
  readonly fileNumber: number;
  readonly fileCount: number;
  readonly loaded: number;
  readonly total: number;
  readonly bytesPerSecond: number;
  readonly secondsLeft: number | undefined;
  readonly state: 'listing' | 'loading' | 'checking' | 'retrying';
  readonly note?: string;
}

export interface StoredModel {
  readonly id: string;
  readonly origin: string;
  readonly endpoint: string;
  readonly bytes: number;
  readonly totalBytes: number;
  readonly complete: boolean;
  /** How many files were compared with a SHA-256 that the source gave. */
  readonly verified: number;
  readonly files: readonly { readonly name: string; readonly bytes: number; readonly sha256?: string; readonly verified: boolean }[];
}

export interface StorageInfo {
  readonly available: boolean;
  readonly usage: number;
  readonly quota: number;
  readonly persistent: boolean;
  readonly models: readonly StoredModel[];
}

export interface MemoryInfo {
  readonly weights: number;
  readonly kv: number;
  readonly scratch: number;
  readonly peak: number;
  readonly reserved: number;
}

/** Everything that the page can ask of the worker: arguments, what is streamed meanwhile, and what comes back. */
export interface Methods {
  open: { args: { readonly device: DeviceWish; readonly source: ModelSource }; item: LoadItem; result: Opened };
  /** For each example the least of the depths from which on its whole answer is right; 0 where there is none. */
  survey: {
    args: { readonly examples: readonly Example[]; readonly depths: readonly number[] };
    item: never;
    result: readonly number[];
  };
  generate: { args: { readonly shared: SharedSettings; readonly run: RunSettings }; item: TokenItem; result: RunSummary };
  trace: { args: TraceArgs; item: never; result: TraceResult };
  trajectories: {
    args: TraceArgs & { readonly positions: readonly number[]; readonly seeds: readonly number[] };
    item: never;
    result: TrajectoryResult;
  };
  chat: { args: ChatArgs; item: TokenItem; result: RunSummary };
  chatReset: { args: undefined; item: never; result: undefined };
  labOpen: { args: { readonly prompt: string; readonly seed: number; readonly initScale: number }; item: never; result: LabState };
  labStep: { args: { readonly id: number; readonly count: number }; item: LabRow; result: LabState };
  labAct: { args: { readonly id: number; readonly action: LabAction }; item: never; result: LabState };
  labFork: { args: { readonly id: number }; item: never; result: LabState };
  labClose: { args: { readonly id: number }; item: never; result: undefined };
  labAnswer: { args: { readonly id: number; readonly recurrences: number }; item: never; result: string };
  train: { args: TrainArgs; item: TrainItem; result: { readonly steps: number } };
  trainSave: { args: undefined; item: never; result: { readonly files: readonly { readonly name: string; readonly blob: Blob }[] } };
  storage: { args: undefined; item: never; result: StorageInfo };
  download: {
    args: { readonly origin: string; readonly endpoint: string; readonly revision: string };
    item: DownloadProgress;
    result: StoredModel;
  };
  remove: { args: { readonly id: string }; item: never; result: StorageInfo };
  persist: { args: undefined; item: never; result: StorageInfo };
  memory: { args: undefined; item: never; result: MemoryInfo };
  loseDevice: { args: undefined; item: never; result: undefined };
}

export interface TraceArgs {
  readonly tokens: readonly number[];
  readonly recurrences: number;
  readonly seed: number;
  readonly initScale: number;
}

export interface ChatArgs {
  readonly messages: readonly { readonly role: 'user' | 'assistant'; readonly content: string }[];
  readonly shared: SharedSettings;
  readonly run: RunSettings;
}

export interface LoadItem {
  readonly what: string;
  readonly loaded: number;
  readonly total: number;
}

export interface Opened {
  readonly device: DeviceInfo;
  readonly model: ModelInfo;
}

export type MethodName = keyof Methods;

/** Errors keep what the page decides by. */
export interface WireError {
  readonly kind: 'aborted' | 'lost' | 'memory' | 'quota' | 'option' | 'network' | 'integrity' | 'other';
  readonly name: string;
  readonly message: string;
}

export type ToWorker =
  | { readonly type: 'call'; readonly id: number; readonly method: MethodName; readonly args: unknown }
  | { readonly type: 'abort'; readonly id: number };

export type FromWorker =
  | { readonly type: 'item'; readonly id: number; readonly item: unknown }
  | { readonly type: 'done'; readonly id: number; readonly result: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: WireError };
