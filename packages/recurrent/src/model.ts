import {
  type CacheUse,
  embedding,
  KVCache,
  type KVPolicy,
  type LayerCall,
  type Loops,
  linear,
  type Pass,
  type RecordedOwner,
} from '@unroll/nn';
import {
  add,
  concatMatmul,
  type Device,
  disposeTree,
  OptionError,
  randomKey,
  randomRows,
  refuseUnknownOptions,
  reshape,
  rmsNorm,
  ropeTable,
  ShapeError,
  showShape,
  slice,
  type Tensor,
  tidy,
} from '@unroll/tensor';
import { sandwichBlock } from './blocks/sandwich.js';
import { cachePolicy } from './cache-policy.js';
import { headDim, type RecurrentConfig } from './config.js';
import { fusedBlocks } from './fused.js';
import type { BlockParams, OwnParams, RecurrentParams } from './params.js';
import { scaledFrequency } from './rope-scaling.js';

// The recurrent-depth model of Geiping et al. 2025 (arXiv 2502.05171) as its public checkpoint runs it:
//   e      = prelude(wte[tokens] * sqrt(C))
//   s_0    = truncated normal, keyed by (seed, position, channel)
//   s_i    = core(adapter([s_{i-1} ; e]))
//   logits = head(ln_f(coda(ln_f(s_r))))
// Letters: B batch, T query length, C width, H heads, D head size, V vocabulary, r recurrences.

/** Where the initial state comes from: drawn by seed (one, or one for each sequence) and scaled, 0 giving zeros; or given, (B, T, C). */
export type InitialState = { readonly seed?: number | readonly number[]; readonly scale?: number } | Tensor;

/** The parts of a model that a variant may replace: functions on (B, T, C). */
export interface RecurrentParts {
  /** How a step sees the input. `loop` counts from 0, one for all sequences or one for each. */
  readonly inject: (model: RecurrentModel, state: Tensor, e: Tensor, loop: number | readonly number[]) => Tensor;
  readonly block: (model: RecurrentModel, params: BlockParams, x: Tensor, call: LayerCall, pass: Pass) => Tensor;
  /** What a step does behind its last block; nothing in Huginn. */
  readonly endLoop: (model: RecurrentModel, x: Tensor) => Tensor;
  /** What becomes of the last state before the coda, and of the coda's output before the head; ln_f both times in Huginn. */
  readonly enterCoda: (model: RecurrentModel, state: Tensor) => Tensor;
  readonly enterHead: (model: RecurrentModel, x: Tensor) => Tensor;
  /**
   * Whether decoding may record a step once and replay it for every loop and token (see `RecordedRuns` of @unroll/nn): the parts then must
   * not depend on `loop`, `pass.positions` or other values of the host that change. True for the parts given here, false where one is
   * replaced, unless said otherwise.
   */
  readonly recordable: boolean;
}

/** adapter([s ; e]), the state first. */
export function concatInjection(model: RecurrentModel, state: Tensor, e: Tensor): Tensor {
  const { adapter } = model.params.transformer;
  if (adapter === undefined) throw new OptionError('concatInjection: the model has no transformer.adapter.weight; give another `inject`');
  return concatMatmul(state, e, adapter.weight);
}

/** Parameters of a family's own, by the name in its `ownShapes`. Throws OptionError where the model has none of this name. */
export function ownParams(model: RecurrentModel, name: string): OwnParams {
  const found = model.params.transformer.own?.[name];
  if (found === undefined) throw new OptionError(`ownParams: the model has no transformer.own.${name}; name it in the family's ownShapes`);
  return found;
}

/** ln_f. */
export function finalNorm(model: RecurrentModel, x: Tensor): Tensor {
  return rmsNorm(x, model.params.transformer.ln_f.weight, { eps: model.config.normEps });
}

/** Nothing. */
export const unchanged = (_: RecurrentModel, x: Tensor): Tensor => x;

const huginnParts: RecurrentParts = {
  inject: concatInjection,
  block: sandwichBlock,
  endLoop: unchanged,
  enterCoda: finalNorm,
  enterHead: finalNorm,
  recordable: true,
};

/**
 * A model: its parameters on a device, and the four functions that every decoding strategy is made of. It owns the parameters (disposed
 * with it), never the device. The functions run inside `tidy` and return tensors that the caller, or the scope around, owns.
 */
export class RecurrentModel {
  readonly device: Device;
  readonly config: RecurrentConfig;
  readonly params: RecurrentParams;
  readonly parts: RecurrentParts;
  /** (P, D/2, 2) cos and sin. */
  readonly rope: Tensor;
  readonly #recorded: RecordedOwner;

  constructor(device: Device, config: RecurrentConfig, params: RecurrentParams, parts: Partial<RecurrentParts> = {}) {
    refuseUnknownOptions('RecurrentModel', parts, Object.keys(huginnParts));
    this.device = device;
    this.config = config;
    this.params = params;
    this.parts = { ...huginnParts, recordable: Object.keys(parts).length === 0, ...parts };
    this.#recorded = { attends: this.parts.block === sandwichBlock };
    const { contextLength, ropeBase, ropeScaling } = config;
    const D = headDim(config);
    const table =
      ropeScaling === undefined
        ? ropeTable(contextLength, D, ropeBase)
        : ropeTable(contextLength, D, ropeBase, (frequency) => scaledFrequency(ropeScaling, frequency));
    this.rope = device.tensor(table, [contextLength, D / 2, 2], { memory: 'weights' });
  }

  get vocabularySize(): number {
    return this.config.vocabularySize;
  }

  get contextLength(): number {
    return this.config.contextLength;
  }

  get meanRecurrence(): number {
    return this.config.meanRecurrence;
  }

  /** An empty cache for `batch` sequences; `use` picks the policy where none is given. The caller disposes it. Throws OptionError. */
  createCache(options: { readonly batch?: number; readonly policy?: KVPolicy | string; readonly use?: CacheUse } = {}): KVCache {
    refuseUnknownOptions('createCache', options, ['batch', 'policy', 'use']);
    const { policy, ...rest } = options;
    const { config, device } = this;
    const layers = { prelude: config.preludeLayers, core: config.coreLayers, coda: config.codaLayers };
    return new KVCache({
      device,
      layers,
      kvHeads: config.kvHeads,
      headDim: headDim(config),
      contextLength: config.contextLength,
      ...rest,
      ...(policy === undefined ? {} : { policy: cachePolicy(policy) }),
    });
  }

  /** e (B, T, C) of tokens (B, T) i32. Throws RangeOpError for a token outside the vocabulary. */
  prelude(tokens: Tensor, pass: Pass): Tensor {
    this.#checkShape('prelude', tokens, [pass.batch, pass.length]);
    const run = (pass: Pass, tokens: Tensor) =>
      tidy(this.device, () => {
        const { wte, prelude } = this.params.transformer;
        const scale = this.config.embeddingScale ?? Math.sqrt(this.config.width);
        return this.#blocks(prelude, embedding(wte, tokens, scale), { part: 'prelude', loop: 0 }, pass);
      });
    return this.#runs(pass)?.run(this.#recorded, 'prelude', [tokens], run) ?? run(pass, tokens);
  }

  /**
   * s_0 (B, T, C): a normal of variance 2/5 cut at 3 standard deviations ("like-init": variance 2/(5C), times the embedding's sqrt(C)),
   * or of the configuration's `stateStd`, drawn by (seed, position, channel), so that neither chunks nor batches change it.
   */
  initialState(pass: Pass, from: InitialState = {}): Tensor {
    const { width: C } = this.config;
    const shape = [pass.batch, pass.length, C];
    if ('storage' in from) {
      this.#checkShape('initialState', from, shape);
      return from;
    }
    refuseUnknownOptions('initialState', from, ['seed', 'scale']);
    const { seed = 0, scale = 1 } = from;
    if (!(scale >= 0 && scale <= 1e6)) throw new OptionError(`initialState: scale must be from 0 (zeros) to 1e6; got ${scale}`);
    const seeds = typeof seed === 'number' ? new Array<number>(pass.batch).fill(seed) : seed;
    if (seeds.length !== pass.batch)
      throw new OptionError(`initialState: ${seeds.length} seeds for a batch of ${pass.batch}; give one, or one for each sequence`);
    const words = seeds.map((one) => randomKey(one, 'state'));
    const std = (this.config.stateStd ?? Math.sqrt(2 / 5)) * scale;
    if (std === 0) return this.device.zeros(shape);
    return tidy(this.device, () => {
      const keys = new Int32Array(pass.batch * pass.length * 2);
      for (let i = 0; i < keys.length; i++) keys[i] = words[Math.floor(i / (2 * pass.length))]![i % 2]!;
      const keyTensor = this.device.tensor(keys, [pass.batch, pass.length, 2], { dtype: 'i32' });
      return randomRows(keyTensor, pass.positionTensor, {
        distribution: 'truncatedNormal',
        width: C,
        std,
        bound: 3,
      });
    });
  }

  /** s_{i+1} (B, T, C) of s_i and e; `loop` i counts from 0, one for all sequences or one for each. */
  step(e: Tensor, state: Tensor, loop: number | readonly number[], pass: Pass): Tensor {
    if (typeof loop === 'number') return this.steps(e, state, { from: loop, to: loop + 1 }, pass);
    this.#checkShape('step: state', state, e.shape);
    return this.#loop(e, state, loop, pass) ?? this.#step(e, state, loop, pass);
  }

  /** s_to (B, T, C) of s_from: the recurrences `from` to `to` - 1, at least one. */
  steps(e: Tensor, state: Tensor, loops: { readonly from: number; readonly to: number }, pass: Pass): Tensor {
    this.#checkShape('step: state', state, e.shape);
    if (!(loops.to > loops.from)) throw new OptionError(`steps: needs at least one loop; got ${loops.from} to ${loops.to}`);
    const recorded = this.#loop(e, state, loops, pass);
    if (recorded !== undefined) return recorded;
    return tidy(this.device, () => {
      let x = state;
      for (let loop = loops.from; loop < loops.to; loop++) {
        const next = this.#step(e, x, loop, pass);
        if (x !== state) x.dispose();
        x = next;
      }
      return x;
    });
  }

  #loop(e: Tensor, state: Tensor, loops: Loops, pass: Pass): Tensor | undefined {
    return this.#runs(pass)?.loop(this.#recorded, loops, e, state, (pass, e, state) => this.#step(e, state, 0, pass));
  }

  #step(e: Tensor, state: Tensor, loop: number | readonly number[], pass: Pass): Tensor {
    return tidy(this.device, () => {
      const injected = this.parts.inject(this, state, e, loop);
      return this.parts.endLoop(this, this.#blocks(this.params.transformer.core_block, injected, { part: 'core', loop }, pass));
    });
  }

  /** The blocks of a part, one after the other. */
  #blocks(blocks: readonly BlockParams[], x: Tensor, call: Omit<LayerCall, 'layer'>, pass: Pass): Tensor {
    if (pass.attend !== undefined && this.#recorded.attends) return fusedBlocks(this, blocks, x, call, pass.attend);
    return blocks.reduce((state, params, layer) => this.parts.block(this, params, state, { ...call, layer }, pass), x);
  }

  #runs(pass: Pass): Pass['runs'] {
    return this.parts.recordable ? pass.runs : undefined;
  }

  /** What enters the coda (B, T, C): ln_f(s_r), unless the parts say otherwise. */
  normState(state: Tensor): Tensor {
    const entering = tidy(this.device, () => this.parts.enterCoda(this, state));
    return entering === state ? reshape(state, state.shape) : entering;
  }

  /** Logits (…, 1) of stopping at states (…, C), for models that were trained with an exit gate (Ouro). Throws OptionError for others. */
  exitLogits(state: Tensor): Tensor {
    const gate = this.params.transformer.exit_gate;
    if (gate === undefined) throw new OptionError('exitLogits: the model has no exit gate; use an exit rule that reads states or logits');
    return tidy(this.device, () => add(linear(gate, state), gate.bias));
  }

  /** Logits of s_r: (B, T, V), or (B, 1, V) of the last position alone. The coda runs over all positions, whose keys later tokens read. */
  readout(state: Tensor, pass: Pass, options: { readonly positions?: 'all' | 'last' } = {}): Tensor<'f32'> {
    refuseUnknownOptions('readout', options, ['positions']);
    const last = options.positions === 'last' && pass.length > 1;
    const run = (pass: Pass, state: Tensor) =>
      tidy(this.device, () => {
        const { coda, wte } = this.params.transformer;
        const x = this.#blocks(coda, this.parts.enterCoda(this, state), { part: 'coda', loop: 0 }, pass);
        const read = last ? slice(x, 1, pass.length - 1, pass.length) : x;
        return linear(this.params.lm_head ?? wte, this.parts.enterHead(this, read));
      });
    return (this.#runs(pass)?.run(this.#recorded, last ? 'coda-last' : 'coda', [state], run) ?? run(pass, state)) as Tensor<'f32'>;
  }

  dispose(): void {
    disposeTree(this.params);
    this.rope.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #checkShape(who: string, tensor: Tensor, shape: readonly number[]): void {
    if (showShape(tensor.shape) !== showShape(shape))
      throw new ShapeError(`${who}: must be ${showShape(shape)}; got ${showShape(tensor.shape)}`);
  }
}

/** A new model of parameters that nobody else has: where it cannot be made, they are given back. */
export function owningModel(...[device, config, params, parts]: ConstructorParameters<typeof RecurrentModel>): RecurrentModel {
  try {
    return new RecurrentModel(device, config, params, parts);
  } catch (error) {
    disposeTree(params);
    throw error;
  }
}
