import { OptionError, refuseUnknownOptions, type Tensor } from '@unroll/tensor';
import type { LanguageModel } from './language-model.js';

/** What a rule sees of one sequence at a check. The tensors are the run's: copy what is to be kept. */
export interface ExitView {
  /** The recurrence that has just run, from 1. */
  readonly recurrence: number;
  /** s_i (T, C) of the positions of this call, before ln_f: all of the prompt (chunk) in prefill, one row in decoding. */
  readonly state: Tensor;
  /** Logits (1, V) behind the last position; computed when first asked for, at the price of a coda and a head. */
  logits(): Tensor<'f32'>;
}

export interface ExitReading {
  readonly value: number;
  readonly exit: boolean;
}

/** A rule at work on one call of one sequence. */
export interface ExitTest {
  check(view: ExitView): ExitReading | Promise<ExitReading>;
  dispose(): void;
}

/** Decides after how many recurrences a call is deep enough. */
export interface ExitRule {
  readonly name: string;
  /** The first recurrence after which the rule is asked, from 1. (The reference counts from 0: its `min_steps` m asks first after m + 1.) */
  readonly minRecurrences: number;
  /** Asked after every n-th recurrence from there on; "previous" means the last one asked about. */
  readonly every: number;
  /** Whether the prompt exits too: one decision for each prefill call, over all its positions. Without it, prompts run to the full depth. */
  readonly inPrefill: boolean;
  /** `start` is s_0 (T, C): copy it to keep it. */
  begin(start: Tensor, model: LanguageModel): ExitTest;
}

export interface ExitControls {
  /** 1 when absent. */
  readonly minRecurrences?: number;
  /** 1 when absent. */
  readonly every?: number;
  /** true when absent. */
  readonly inPrefill?: boolean;
}

/** Why and when a token's recurrence ended. */
export interface ExitRecord {
  readonly rule: string;
  /** The value that stopped it; absent when it ran to the full depth. */
  readonly value: number | undefined;
  /** The value at every check. */
  readonly values: readonly number[];
}

export const controlNames = ['minRecurrences', 'every', 'inPrefill'] as const;

/** The controls with defaults in place. Throws OptionError. */
export function parseControls(who: string, { minRecurrences = 1, every = 1, inPrefill = true }: ExitControls): Required<ExitControls> {
  for (const [name, value] of Object.entries({ minRecurrences, every })) {
    if (!Number.isInteger(value) || value < 1) throw new OptionError(`${who}: ${name} must be a whole number from 1; got ${value}`);
  }
  return { minRecurrences, every, inPrefill };
}

export interface CustomExitOptions extends ExitControls {
  readonly name: string;
  /** Called for each call of each sequence with s_0 (T, C) and the model; the test that it returns is disposed at the end of the call. */
  readonly begin: (start: Tensor, model: LanguageModel) => { check: ExitTest['check']; dispose?: () => void };
}

/** A rule of your own. Throws OptionError. */
export function customExit(options: CustomExitOptions): ExitRule {
  refuseUnknownOptions('customExit', options, ['name', 'begin', ...controlNames]);
  return {
    name: options.name,
    ...parseControls('customExit', options),
    begin(start, model) {
      const test = options.begin(start, model);
      return { check: (view) => test.check(view), dispose: () => test.dispose?.() };
    },
  };
}
