import { OptionError, refuseUnknownOptions, type Tensor } from '@unroll/tensor';
import type { LanguageModel } from './language-model.js';

/** What a rule sees of one sequence, or one position, at a check. The tensors are the run's: copy what is to be kept. */
export interface ExitView {
  /** The recurrence that has just run, from 1. */
  readonly recurrence: number;
  /** s_i (T, C) of the positions that stop together, before ln_f: all of the prompt (chunk) in prefill, one row in decoding. */
  readonly state: Tensor;
  /** Logits (1, V) behind the last position; computed when first asked for, at the price of a coda and a head. */
  logits(): Tensor<'f32'>;
}

export interface ExitReading {
  readonly value: number;
  readonly exit: boolean;
}

/**
 * A rule at work on what stops together in one call. `measure` puts its quantity, one number, on the device, without waiting for it;
 * `judge` gets the numbers in the order of the checks, possibly a few recurrences later, which are then taken back.
 */
export interface MeasuredExit {
  measure(view: ExitView): Tensor;
  judge(value: number): ExitReading;
  dispose(): void;
}

/** A rule that decides by itself after every check, while the device waits. */
export interface CheckedExit {
  check(view: ExitView): ExitReading | Promise<ExitReading>;
  dispose(): void;
}

export type ExitTest = MeasuredExit | CheckedExit;

/** Whether and how the prompt exits: see `ExitControls`. */
export type ExitInPrefill = boolean | 'positions';

/** Decides after how many recurrences a call is deep enough. */
export interface ExitRule {
  readonly name: string;
  /** The first recurrence after which the rule is asked, from 1. (The reference counts from 0: its `min_steps` m asks first after m + 1.) */
  readonly minRecurrences: number;
  /** Asked after every n-th recurrence from there on; "previous" means the last one asked about. */
  readonly every: number;
  readonly inPrefill: ExitInPrefill;
  /** Checks per reading; undefined lets the device decide. */
  readonly readEvery: number | undefined;
  /** `start` is s_0 (T, C): copy it to keep it. */
  begin(start: Tensor, model: LanguageModel): ExitTest;
}

export interface ExitControls {
  /** 1 when absent. */
  readonly minRecurrences?: number;
  /** 1 when absent. */
  readonly every?: number;
  /**
   * true (the default): one decision for each prefill call, over all its positions, as in the reference; false: the prompt runs to the
   * full depth; `positions`: every position of the prompt stops by itself, as it would one token at a time.
   */
  readonly inPrefill?: ExitInPrefill;
  /**
   * How many checks of a token, 1 to 8, share one reading, while further recurrences are on their way; those that turn out to be too many
   * are taken back, so the text does not depend on it. When absent 4 on WebGPU, where a reading is a wait, and on a CPU every check is read
   * at once. Prompts, rules with `check`, and runs with a hook are read at once everywhere.
   */
  readonly readEvery?: number;
}

/** Why and when a token's recurrence ended. */
export interface ExitRecord {
  readonly rule: string;
  /** The value that stopped it; absent when it ran to the full depth. */
  readonly value: number | undefined;
  /** The value at every check. */
  readonly values: readonly number[];
}

/** What `readEvery` is where a reading is a wait. */
export const defaultReadEvery = 4;

export const controlNames = ['minRecurrences', 'every', 'inPrefill', 'readEvery'] as const;

type Controls = Pick<ExitRule, (typeof controlNames)[number]>;

/** The controls with defaults in place. Throws OptionError. */
export function parseControls(who: string, { minRecurrences = 1, every = 1, inPrefill = true, readEvery }: ExitControls): Controls {
  for (const [name, value] of Object.entries({ minRecurrences, every })) {
    if (!Number.isInteger(value) || value < 1) throw new OptionError(`${who}: ${name} must be a whole number from 1; got ${value}`);
  }
  if (readEvery !== undefined && !(Number.isInteger(readEvery) && readEvery >= 1 && readEvery <= 8))
    throw new OptionError(`${who}: readEvery must be a whole number from 1 to 8; got ${readEvery}`);
  if (typeof inPrefill !== 'boolean' && inPrefill !== 'positions')
    throw new OptionError(`${who}: inPrefill must be true, false or "positions"; got ${JSON.stringify(inPrefill)}`);
  return { minRecurrences, every, inPrefill, readEvery };
}

type Part<T> = Omit<T, 'dispose'> & { readonly dispose?: () => void };

export interface CustomExitOptions extends ExitControls {
  readonly name: string;
  /**
   * Called with s_0 (T, C) and the model for whatever stops together in a call; the test that it returns is disposed at the end of the
   * call. With `check` it decides at once; with `measure` and `judge` the device need not wait.
   */
  readonly begin: (start: Tensor, model: LanguageModel) => Part<CheckedExit> | Part<MeasuredExit>;
}

/** A rule of your own. Throws OptionError. */
export function customExit(options: CustomExitOptions): ExitRule {
  refuseUnknownOptions('customExit', options, ['name', 'begin', ...controlNames]);
  return {
    name: options.name,
    ...parseControls('customExit', options),
    begin(start, model) {
      const test = options.begin(start, model);
      const dispose = () => test.dispose?.();
      if ('check' in test) return { check: (view) => test.check(view), dispose };
      return { measure: (view) => test.measure(view), judge: (value) => test.judge(value), dispose };
    },
  };
}
