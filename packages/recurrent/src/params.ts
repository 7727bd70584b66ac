import type { Weight } from '@unroll/nn';
import { type Device, disposeTree, type StorageDType, sum, type Tensor, UnrollError } from '@unroll/tensor';
import type { RecurrentConfig } from './config.js';
import { type ModelFamily, sandwich } from './family.js';

/** Parameters of one block; the keys are the names of the public checkpoint. Which norms there are depends on the family. */
export interface BlockParams {
  readonly norm_1: Weight;
  readonly norm_2: Weight;
  readonly norm_3?: Weight;
  readonly norm_4?: Weight;
  readonly attn: {
    /** (H D + 2 Hk D, C): rows of q, k, v. */
    readonly Wqkv: Weight;
    /** (2, 1, H, D): added to q and to k. */
    readonly qk_bias?: Tensor;
    /** (H D) and (Hk D): norms of q and of k over all heads together. */
    readonly q_norm?: Weight;
    readonly k_norm?: Weight;
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
    /** (C, 2 C): columns of the state first, then of e. Absent where the state is not mixed with e. */
    readonly adapter?: Weight;
    readonly core_block: readonly BlockParams[];
    readonly coda: readonly BlockParams[];
    readonly ln_f: Weight;
    /** weight (1, C), bias (1): the logit of stopping, in models that are trained with an exit gate. */
    readonly exit_gate?: Weight & { readonly bias: Tensor };
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

const loadable: readonly string[] = ['F32', 'F16', 'BF16'];

/** Name and shape of every parameter of a model, in the order of the computation. */
export function parameterShapes(config: RecurrentConfig, family: ModelFamily = sandwich): Map<string, readonly number[]> {
  const { width: C, vocabularySize: V } = config;
  const shapes = new Map<string, readonly number[]>([['transformer.wte.weight', [V, C]]]);
  const blocks = (part: string, count: number) => {
    for (let n = 0; n < count; n++) {
      for (const [name, shape] of Object.entries(family.blockShapes(config))) shapes.set(`transformer.${part}.${n}.${name}`, shape);
    }
  };
  blocks('prelude', config.preludeLayers);
  if (family.hasAdapter) shapes.set('transformer.adapter.weight', [C, 2 * C]);
  blocks('core_block', config.coreLayers);
  blocks('coda', config.codaLayers);
  shapes.set('transformer.ln_f.weight', [C]);
  if (family.hasExitGate) {
    shapes.set('transformer.exit_gate.weight', [1, C]);
    shapes.set('transformer.exit_gate.bias', [1]);
  }
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

/** A tensor of a checkpoint that is a parameter, or some of its rows. */
export interface StoredPart {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Which stored tensors make up each parameter, one behind the other along the first axis. */
export function storedParts(config: RecurrentConfig, family: ModelFamily = sandwich): Map<string, readonly StoredPart[]> {
  return new Map(
    [...parameterShapes(config, family)].map(([name, shape]) => [
      name,
      family.stored(name, config).map(({ name: stored, rows = shape[0]! }) => ({ name: stored, shape: [rows, ...shape.slice(1)] })),
    ]),
  );
}

function problemsOf(config: RecurrentConfig, source: TensorSource, family: ModelFamily): string[] {
  const problems: string[] = [];
  const known = new Set(family.unused(config));
  for (const [parameter, parts] of storedParts(config, family)) {
    const dtypes = new Set<string>();
    for (const { name, shape } of parts) {
      known.add(name);
      const entry = source.entries.get(name);
      if (entry === undefined) problems.push(`${name} is missing; it must be [${shape}]`);
      else if (entry.shape.join() !== shape.join()) problems.push(`${name} is [${entry.shape}]; it must be [${shape}]`);
      else if (!loadable.includes(entry.dtype)) problems.push(`${name} is ${entry.dtype}; parameters must be ${loadable.join(', ')}`);
      if (entry !== undefined) dtypes.add(entry.dtype);
    }
    if (dtypes.size > 1)
      problems.push(
        `${parts.map(({ name }) => name).join(', ')} are ${[...dtypes].join(', ')}; as rows of ${parameter} they must be alike`,
      );
  }
  const extra = [...source.entries.keys()].filter((name) => !known.has(name));
  if (extra.length > 0) problems.push(`not part of this model: ${extra.join(', ')}`);
  return problems;
}

export interface LoadParamsOptions {
  readonly onProgress?: (progress: { readonly name: string; readonly loaded: number; readonly total: number }) => void;
  readonly signal?: AbortSignal;
  /** How the checkpoint is laid out; the sandwich when absent. `familyOf` tells by its names. */
  readonly family?: ModelFamily;
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
  const { family = sandwich } = options;
  const problems = problemsOf(config, source, family);
  if (problems.length > 0) {
    const shown = problems.slice(0, 20).join('; ');
    const more = problems.length > 20 ? `; and ${problems.length - 20} more` : '';
    throw new ParamsError(`${source.name}: the tensors do not fit config.json: ${shown}${more}`);
  }
  const tensors = new Map<string, Tensor>();
  try {
    const parameters = parameterShapes(config, family);
    for (const [name, parts] of storedParts(config, family)) {
      options.signal?.throwIfAborted();
      const dtype = source.entries.get(parts[0]!.name)!.dtype.toLowerCase() as StorageDType;
      const tensor = device.fromBytes(await readParts(source, parts), dtype, parameters.get(name)!, { memory: 'weights' });
      tensors.set(name, tensor);
      await checkFinite(source.name, name, tensor);
      options.onProgress?.({ name, loaded: tensors.size, total: parameters.size });
    }
    return paramsFromNames(tensors);
  } catch (error) {
    disposeTree(tensors);
    throw error;
  }
}

async function readParts(source: TensorSource, parts: readonly StoredPart[]): Promise<Uint8Array> {
  if (parts.length === 1) return source.read(parts[0]!.name);
  const pieces = await Promise.all(parts.map(({ name }) => source.read(name)));
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

// One NaN in a weight makes every output NaN; naming the tensor here saves a search through the model later. A sum carries NaN and infinity along.
async function checkFinite(source: string, name: string, tensor: Tensor): Promise<void> {
  const total = sum(tensor);
  const [value] = await total.data();
  total.dispose();
  if (!Number.isFinite(value))
    throw new ParamsError(`${source}: ${name} holds NaN or infinite values; the file is damaged or was saved from a diverged run`);
}
