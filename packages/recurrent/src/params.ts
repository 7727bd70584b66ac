import type { Weight } from '@unroll/nn';
import { type Device, disposeTree, type StorageDType, sum, type Tensor, UnrollError } from '@unroll/tensor';
import { headDim, type RecurrentConfig } from './config.js';

/** Parameters of one sandwich block; the keys are the checkpoint's names. */
export interface BlockParams {
  readonly norm_1: Weight;
  readonly norm_2: Weight;
  readonly norm_3: Weight;
  readonly norm_4: Weight;
  readonly attn: {
    /** (H D + 2 Hk D, C): rows of q, k, v. */
    readonly Wqkv: Weight;
    /** (2, 1, H, D): added to q and to k. */
    readonly qk_bias?: Tensor;
    readonly proj: Weight;
  };
  /** fc (2 I, C) with the gate rows first, proj (C, I). */
  readonly mlp: { readonly fc: Weight; readonly proj: Weight };
}

export interface RecurrentParams {
  readonly transformer: {
    /** (V, C) */
    readonly wte: Weight;
    readonly prelude: readonly BlockParams[];
    /** (C, 2 C): columns of the state first, then of e. */
    readonly adapter: Weight;
    readonly core_block: readonly BlockParams[];
    readonly coda: readonly BlockParams[];
    readonly ln_f: Weight;
  };
  /** (V, C); absent when the head is tied to wte. */
  readonly lm_head?: Weight;
}

/** A problem with a checkpoint's tensors; the message lists them all. */
export class ParamsError extends UnrollError {}

/** What loading reads from: `@unroll/checkpoint` gives such objects, a Map of bytes can be made into one. */
export interface TensorSource {
  readonly name: string;
  readonly entries: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[] }>;
  read(name: string): Promise<Uint8Array>;
}

// The upload carries the tied head a second time, and a table that is computed here.
const dropped = (config: RecurrentConfig): readonly string[] => ['freqs_cis', ...(config.tiedHead ? ['lm_head.weight'] : [])];
const loadable: readonly string[] = ['F32', 'F16', 'BF16'];

function blockShapes(config: RecurrentConfig): Record<string, readonly number[]> {
  const { width: C, heads: H, kvHeads: Hk, mlpWidth: I } = config;
  const D = headDim(config);
  return {
    'norm_1.weight': [C],
    'attn.Wqkv.weight': [(H + 2 * Hk) * D, C],
    ...(config.qkBias ? { 'attn.qk_bias': [2, 1, H, D] } : {}),
    'attn.proj.weight': [C, C],
    'norm_2.weight': [C],
    'norm_3.weight': [C],
    'mlp.fc.weight': [2 * I, C],
    'mlp.proj.weight': [C, I],
    'norm_4.weight': [C],
  };
}

/** Name and shape of every parameter of a model, in the order of the computation. */
export function parameterShapes(config: RecurrentConfig): Map<string, readonly number[]> {
  const { width: C, vocabularySize: V } = config;
  const shapes = new Map<string, readonly number[]>([['transformer.wte.weight', [V, C]]]);
  const blocks = (part: string, count: number) => {
    for (let n = 0; n < count; n++) {
      for (const [name, shape] of Object.entries(blockShapes(config))) shapes.set(`transformer.${part}.${n}.${name}`, shape);
    }
  };
  blocks('prelude', config.preludeLayers);
  shapes.set('transformer.adapter.weight', [C, 2 * C]);
  blocks('core_block', config.coreLayers);
  blocks('coda', config.codaLayers);
  shapes.set('transformer.ln_f.weight', [C]);
  if (!config.tiedHead) shapes.set('lm_head.weight', [V, C]);
  return shapes;
}

/** Builds the tree that dotted names describe; whole-number keys make arrays. Parts with no layer become empty arrays. */
export function paramsFromNames(tensors: ReadonlyMap<string, Tensor>): RecurrentParams {
  const root: Record<string, unknown> = {};
  for (const [name, tensor] of tensors) {
    const keys = name.split('.');
    let node = root as Record<string, unknown>;
    keys.forEach((key, i) => {
      if (i === keys.length - 1) {
        node[key] = tensor;
      } else {
        node[key] ??= /^\d+$/.test(keys[i + 1]!) ? [] : {};
        node = node[key] as Record<string, unknown>;
      }
    });
  }
  const transformer = root.transformer as Record<string, unknown>;
  for (const part of ['prelude', 'core_block', 'coda']) transformer[part] ??= [];
  return root as unknown as RecurrentParams;
}

function problemsOf(config: RecurrentConfig, source: TensorSource): string[] {
  const expected = parameterShapes(config);
  const problems: string[] = [];
  for (const [name, shape] of expected) {
    const entry = source.entries.get(name);
    if (entry === undefined) problems.push(`${name} is missing; it must be [${shape}]`);
    else if (entry.shape.join() !== shape.join()) problems.push(`${name} is [${entry.shape}]; it must be [${shape}]`);
    else if (!loadable.includes(entry.dtype)) problems.push(`${name} is ${entry.dtype}; parameters must be ${loadable.join(', ')}`);
  }
  const drop = dropped(config);
  const extra = [...source.entries.keys()].filter((name) => !expected.has(name) && !drop.includes(name));
  if (extra.length > 0) problems.push(`not part of this model: ${extra.join(', ')}`);
  return problems;
}

export interface LoadParamsOptions {
  readonly onProgress?: (progress: { readonly name: string; readonly loaded: number; readonly total: number }) => void;
  readonly signal?: AbortSignal;
}

/**
 * Loads all parameters, one tensor at a time; f16 and bf16 become f32. Throws ParamsError with every missing, extra and mis-shaped
 * name, or naming the tensor that holds NaN or infinite values; what was loaded by then is given back.
 */
export async function loadParams(
  device: Device,
  config: RecurrentConfig,
  source: TensorSource,
  options: LoadParamsOptions = {},
): Promise<RecurrentParams> {
  const problems = problemsOf(config, source);
  if (problems.length > 0) {
    const shown = problems.slice(0, 20).join('; ');
    const more = problems.length > 20 ? `; and ${problems.length - 20} more` : '';
    throw new ParamsError(`${source.name}: the tensors do not fit config.json: ${shown}${more}`);
  }
  const tensors = new Map<string, Tensor>();
  try {
    const names = [...parameterShapes(config).keys()];
    for (const [i, name] of names.entries()) {
      options.signal?.throwIfAborted();
      const entry = source.entries.get(name)!;
      const tensor = device.fromBytes(await source.read(name), entry.dtype.toLowerCase() as StorageDType, entry.shape, {
        memory: 'weights',
      });
      tensors.set(name, tensor);
      await checkFinite(source.name, name, tensor);
      options.onProgress?.({ name, loaded: i + 1, total: names.length });
    }
    return paramsFromNames(tensors);
  } catch (error) {
    disposeTree(tensors);
    throw error;
  }
}

// One NaN in a weight makes every output NaN; naming the tensor here saves a search through the model later. A sum carries NaN and infinity along.
async function checkFinite(source: string, name: string, tensor: Tensor): Promise<void> {
  const total = sum(tensor);
  const [value] = await total.data();
  total.dispose();
  if (!Number.isFinite(value))
    throw new ParamsError(`${source}: ${name} holds NaN or infinite values; the file is damaged or was saved from a diverged run`);
}
