import { concat, keep, reshape, type Tensor, tidy, UnrollError } from '@unroll/tensor';
import type { ExitReading, ExitRecord, ExitRule, ExitTest } from './exit.js';
import type { LanguageModel } from './language-model.js';

/** A check, with all that is needed to end there. */
export interface Check {
  readonly recurrence: number;
  /** The journal's, behind what the check itself wrote. */
  readonly mark: number;
  /** s_i (T, C) */
  readonly state: Tensor;
  /** (1, V), where the rule has read them. */
  readonly logits: Tensor<'f32'> | undefined;
}

/** What a check looks at, made inside a tidy. */
export interface Sight {
  /** s_i (T, C), padding included. */
  readonly state: Tensor;
  /** The same without padding. */
  readonly own: Tensor;
  /** Logits (1, V). */
  readonly logits: () => Tensor<'f32'>;
  /** The journal's mark once the check has read what it reads. */
  readonly mark: () => number;
}

function disposeCheck(check: Check | undefined): void {
  check?.state.dispose();
  check?.logits?.dispose();
}

/** A second handle on a tensor, which no scope frees. */
const hold = <T extends Tensor>(tensor: T): T => keep(reshape(tensor, tensor.shape)) as T;

/** A rule that watches what stops together in a call, from its start to where it ends. An owner of what it holds. */
export class ExitWatch {
  readonly #test: ExitTest;
  readonly #values: number[] = [];
  /** Checks whose numbers have not come back, oldest first. */
  readonly #open: Check[] = [];
  /** Where it has ended. */
  ended: Check | undefined;
  record: ExitRecord | undefined;

  /** `start` is s_0 (T, C) without padding; at most `most` recurrences follow. */
  constructor(
    readonly rule: ExitRule,
    readonly most: number,
    start: Tensor,
    readonly model: LanguageModel,
  ) {
    this.#test = rule.begin(start, model);
  }

  /** Whether the rule is asked after this recurrence. */
  asks(recurrence: number): boolean {
    const since = recurrence - this.rule.minRecurrences;
    return since >= 0 && since % this.rule.every === 0;
  }

  /** Whether its numbers may come back later. */
  get patient(): boolean {
    return 'measure' in this.#test;
  }

  /** Whether numbers have yet to come back. */
  get waiting(): boolean {
    return this.#open.length > 0;
  }

  /** Puts the check's number on the device; hand it to `settle` when it has come back. The caller disposes the tensor. */
  measure(recurrence: number, see: () => Sight): Tensor {
    const test = this.#test;
    if (!('measure' in test)) throw new UnrollError(`exit rule "${this.rule.name}": its test has check, and no measure and judge`);
    return tidy(this.model.device, () => {
      const { state, own, logits, mark } = see();
      let read: Tensor<'f32'> | undefined;
      const value = test.measure({
        recurrence,
        state: own,
        logits: () => {
          read ??= logits();
          return read;
        },
      });
      this.#open.push({ recurrence, mark: mark(), state: hold(state), logits: read === undefined ? undefined : hold(read) });
      return reshape(value, [1]);
    });
  }

  /** Takes the number of the oldest open check; true when the watch ends there. */
  settle(value: number): boolean {
    const test = this.#test;
    return 'judge' in test && this.#accept(test.judge(value), this.#open.shift()!);
  }

  /** Asks the rule and waits for the answer. */
  async check(recurrence: number, see: () => Sight): Promise<boolean> {
    const test = this.#test;
    if (!('check' in test)) return this.settle((await readNumbers([this.measure(recurrence, see)]))[0]!);
    const { state, own, logits, mark } = tidy(this.model.device, () => {
      const sight = see();
      return { ...sight, state: hold(sight.state), own: hold(sight.own) };
    });
    let read: Tensor<'f32'> | undefined;
    try {
      const reading = await test.check({
        recurrence,
        state: own,
        logits: () => {
          read ??= tidy(this.model.device, () => hold(logits()));
          return read;
        },
      });
      return this.#accept(reading, { recurrence, mark: mark(), state, logits: read });
    } catch (error) {
      disposeCheck({ recurrence, mark: 0, state, logits: read });
      throw error;
    } finally {
      own.dispose();
    }
  }

  /** Ends it at the full depth, where no check was due. `state` is (T, C). */
  end(state: Tensor): void {
    this.ended = { recurrence: this.most, mark: 0, state: hold(state), logits: undefined };
  }

  dispose(): void {
    this.#test.dispose();
    disposeCheck(this.ended);
    for (const check of this.#open.splice(0)) disposeCheck(check);
  }

  #accept({ value, exit }: ExitReading, check: Check): boolean {
    this.#values.push(value);
    this.record = { rule: this.rule.name, value: exit ? value : undefined, values: this.#values };
    if (!exit && check.recurrence < this.most) {
      disposeCheck(check);
      return false;
    }
    this.ended = check;
    for (const later of this.#open.splice(0)) disposeCheck(later);
    return true;
  }
}

/** Numbers (1) of checks, in one reading for each dtype. Disposes the tensors, also where it throws. */
export function readNumbers(tensors: readonly Tensor[]): Promise<number[]> {
  const kinds = (['f32', 'i32'] as const).map((dtype) => tensors.flatMap((tensor, i) => (tensor.dtype === dtype ? [i] : [])));
  const joined: (Tensor | undefined)[] = [];
  try {
    for (const places of kinds) {
      const own = places.map((i) => tensors[i]!);
      joined.push(own.length > 1 ? tidy(own[0]!.device, () => concat(own, 0)) : own[0]);
    }
  } catch (error) {
    for (const tensor of [...tensors, ...joined]) tensor?.dispose();
    throw error;
  }
  for (const tensor of tensors) if (!joined.includes(tensor)) tensor.dispose();
  const reading = Promise.all(joined.map(async (tensor) => (tensor === undefined ? [] : [...(await tensor.data())])))
    .then((read) => {
      const numbers = new Array<number>(tensors.length);
      kinds.forEach((places, kind) => {
        places.forEach((place, i) => {
          numbers[place] = read[kind]![i]!;
        });
      });
      return numbers;
    })
    .finally(() => {
      for (const tensor of joined) tensor?.dispose();
    });
  // Whoever waits for it may leave before.
  reading.catch(() => undefined);
  return reading;
}
