import type { Pass } from '@unroll/nn';
import { beginPass, type RecurrentModel } from '@unroll/recurrent';
import { generate, type RecurrenceHook } from '@unroll/sampler';
import { add, OptionError, randomKey, randomRows, reshape, type Tensor, tidy } from '@unroll/tensor';
import { type EngineState, takeValues } from './engine.js';
import type { CallContext } from './host.js';
import { labelled, labelOf } from './labels.js';
import type { LabAction, LabRow, LabState } from './protocol.js';

const TOP = 5;
const MOST_THOUGHTS = 8;

/** A thought under way: one prompt, its state after some recurrences, and everything that was done to it. */
interface Thought {
  readonly id: number;
  readonly prompt: string;
  readonly tokens: readonly number[];
  readonly seed: number;
  readonly initScale: number;
  readonly pass: Pass;
  e: Tensor;
  state: Tensor;
  recurrence: number;
  rows: LabRow[];
  actions: LabAction[];
}

const rowNorm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));

/** A state with noise at every position, keyed by seed, position and channel. */
function noisy(model: RecurrentModel, state: Tensor, positions: Int32Array, { amount, seed }: { amount: number; seed: number }): Tensor {
  const [B, T, C] = state.shape as [number, number, number];
  return tidy(model.device, () => {
    const words = randomKey(seed, 'noise');
    const keys = Int32Array.from({ length: 2 * B * T }, (_, i) => words[i % 2]!);
    const { device } = model;
    // Behind the sandwich's last norm the rows of a state have a norm near sqrt(C), as have rows of unit variance.
    const noise = randomRows(device.tensor(keys, [B, T, 2]), device.tensor(positions, [B, T], { dtype: 'i32' }), {
      distribution: 'truncatedNormal',
      width: C,
      std: amount,
      bound: 3,
    });
    return add(state, noise);
  });
}

/** Thoughts that the page steps through, changes and forks. */
export class Lab {
  readonly #thoughts = new Map<number, Thought>();
  #next = 1;

  constructor(private readonly engine: EngineState) {
    engine.onUnload.push(() => this.#thoughts.clear());
  }

  async open(prompt: string, seed: number, initScale: number): Promise<LabState> {
    if (this.#thoughts.size >= MOST_THOUGHTS) throw new OptionError(`lab: ${MOST_THOUGHTS} thoughts are open; close one first`);
    const { model } = this.engine.loaded;
    const tokens = this.engine.tokenizer.encode(prompt);
    const { pass, input } = beginPass(model, [tokens], {});
    const e = model.prelude(input, pass);
    input.dispose();
    const state = model.initialState(pass, { seed, scale: initScale });
    const thought: Thought = { id: this.#next++, prompt, tokens, seed, initScale, pass, e, state, recurrence: 0, rows: [], actions: [] };
    this.#thoughts.set(thought.id, thought);
    return this.#show(thought);
  }

  async step(id: number, count: number, { signal, item }: CallContext<'labStep'>): Promise<LabState> {
    const thought = this.#find(id);
    for (let i = 0; i < count; i++) {
      signal.throwIfAborted();
      item(await this.#advance(thought));
    }
    return this.#show(thought);
  }

  async act(id: number, action: LabAction): Promise<LabState> {
    const thought = this.#find(id);
    if (action.at !== thought.recurrence)
      throw new OptionError(`lab: the action is for recurrence ${action.at}; the thought is at ${thought.recurrence}`);
    this.#apply(thought, action);
    thought.actions.push(action);
    return this.#show(thought);
  }

  /** A second thought at the same point. It has the same numbers because everything that was done is done again. */
  async fork(id: number): Promise<LabState> {
    const { prompt, seed, initScale, actions, recurrence } = this.#find(id);
    const { id: copy } = await this.open(prompt, seed, initScale);
    const thought = this.#find(copy);
    for (let i = 0; i <= recurrence; i++) {
      for (const action of actions.filter(({ at }) => at === i)) this.#apply(thought, action);
      if (i < recurrence) await this.#advance(thought);
    }
    thought.actions = [...actions];
    return this.#show(thought);
  }

  close(id: number): void {
    const thought = this.#thoughts.get(id);
    if (thought === undefined) return;
    this.#thoughts.delete(id);
    for (const owned of [thought.e, thought.state, thought.pass]) owned.dispose();
  }

  /** The whole answer when the prompt's recurrence goes through the same actions; the tokens behind it run undisturbed. */
  async answer(id: number, recurrences: number, signal: AbortSignal): Promise<string> {
    const { tokens, actions, seed, initScale } = this.#find(id);
    const { loaded, tokenizer } = this.engine;
    let text = '';
    const { model } = loaded;
    const hook = this.#hook(actions, tokens.length);
    const maxNewTokens = Math.min(loaded.opened.maxNewTokens, loaded.model.contextLength - tokens.length);
    for await (const item of generate({ model, tokenizer, prompt: tokens, recurrences, seed, initScale, maxNewTokens, hook, signal })) {
      text += item.text;
    }
    return text;
  }

  #apply(thought: Thought, action: LabAction): void {
    const { model } = this.engine.loaded;
    if (action.kind === 'noise') {
      const next = noisy(model, thought.state, thought.pass.positions, action);
      thought.state.dispose();
      thought.state = next;
      return;
    }
    const e = this.#inject(action.prompt, thought.tokens.length);
    thought.e.dispose();
    thought.e = e;
  }

  /** e of another prompt of the same length. */
  #inject(prompt: string, length: number): Tensor {
    const { model } = this.engine.loaded;
    const tokens = this.engine.tokenizer.encode(prompt);
    if (tokens.length !== length)
      throw new OptionError(`lab: the injected prompt must have as many tokens as the first, ${length}; "${prompt}" has ${tokens.length}`);
    const { pass, input } = beginPass(model, [tokens], {});
    try {
      return model.prelude(input, pass);
    } finally {
      input.dispose();
      pass.dispose();
    }
  }

  async #advance(thought: Thought): Promise<LabRow> {
    const { model, opened } = this.engine.loaded;
    const next = model.step(thought.e, thought.state, thought.recurrence, thought.pass);
    const [before, now] = await Promise.all([thought.state.data(), next.data()]);
    thought.state.dispose();
    thought.state = next;
    thought.recurrence++;
    const T = thought.tokens.length;
    const C = model.config.width;
    const last = (values: ArrayLike<number>) => (values as Float32Array).slice((T - 1) * C, T * C);
    const [a, b] = [last(before as Float32Array), last(now as Float32Array)];
    const logits = tidy(model.device, () =>
      reshape(model.readout(next, thought.pass, { positions: 'last' }), [1, model.vocabularySize]),
    ) as Tensor<'f32'>;
    const values = await takeValues(logits);
    const most = values.reduce((best, x) => Math.max(best, x), Number.NEGATIVE_INFINITY);
    const mass = values.reduce((sum, x) => sum + Math.exp(x - most), 0);
    const best = [...values.keys()].sort((i, j) => values[j]! - values[i]!).slice(0, TOP);
    const row: LabRow = {
      recurrence: thought.recurrence,
      change: rowNorm(b.map((x, c) => x - a[c]!)) / rowNorm(b),
      norm: rowNorm(b),
      top: labelled(
        opened.tokenizer,
        best.map((token) => ({ token, logprob: values[token]! - most - Math.log(mass) })),
      ),
    };
    thought.rows.push(row);
    return row;
  }

  /** The actions as a hook of `generate`: in the prompt's pass, at the same recurrences. */
  #hook(actions: readonly LabAction[], promptLength: number): RecurrenceHook {
    const { model } = this.engine.loaded;
    return {
      before: ({ recurrence, state, positions }) => {
        const due = positions.length === promptLength && positions[0] === 0 ? actions.filter(({ at }) => at === recurrence - 1) : [];
        let changed: Tensor | undefined;
        let e: Tensor | undefined;
        for (const action of due) {
          if (action.kind === 'swap') {
            e?.dispose();
            e = this.#inject(action.prompt, promptLength);
            continue;
          }
          const next = noisy(model, changed ?? state, positions, action);
          changed?.dispose();
          changed = next;
        }
        return { ...(changed === undefined ? {} : { state: changed }), ...(e === undefined ? {} : { e }) };
      },
    };
  }

  #find(id: number): Thought {
    const thought = this.#thoughts.get(id);
    if (thought === undefined) throw new OptionError(`lab: there is no thought ${id}; the model was changed, or it was closed`);
    return thought;
  }

  #show({ id, prompt, tokens, recurrence, rows, actions }: Thought): LabState {
    const { tokenizer } = this.engine.loaded.opened;
    return { id, prompt, labels: tokens.map((token) => labelOf(tokenizer, token)), recurrence, rows: [...rows], actions: [...actions] };
  }
}
