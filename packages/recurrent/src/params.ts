import type { Weight } from '@unroll/nn';
import { type Device, disposeTree, OptionError, type Tensor, weightParts } from '@unroll/tensor';
import { requireFit } from './capacity.js';
import type { RecurrentConfig } from './config.js';
import { type ModelFamily, sandwich } from './family.js';
import { goesByPieces, loadWeight, quantizedProblems, storedFormat, type WeightDType } from './load-weight.js';
import { parameterShapes } from './shapes.js';
import { ParamsError, type StoredPart, type TensorSource } from './source.js';

export type { WeightDType } from './load-weight.js';
export { ParamsError, type StoredPart, type TensorSource } from './source.js';

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

/** Parameters of a family's own. */
export interface OwnParams {
  readonly weight: Tensor;
  readonly bias?: Tensor;
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
    /** What a family has for the parts that it replaces; see `ownParams`. */
    readonly own?: Readonly<Record<string, OwnParams>>;
  };
  /** (V, C); absent when the head is tied to wte. */
  readonly lm_head?: Weight;
}

const loadable: readonly string[] = ['F32', 'F16', 'BF16'];

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

/** Which stored tensors make up each parameter, one behind the other along the first axis. */
export function storedParts(config: RecurrentConfig, family: ModelFamily = sandwich): Map<string, readonly StoredPart[]> {
  return new Map(
    [...parameterShapes(config, family)].map(([name, shape]) => [
      name,
      family.stored(name, config).map(({ name: stored, rows = shape[0]! }) => ({ name: stored, shape: [rows, ...shape.slice(1)] })),
    ]),
  );
}

function problemsOf(config: RecurrentConfig, source: TensorSource, family: ModelFamily, dtype: WeightDType | undefined): string[] {
  const problems: string[] = [];
  const known = new Set(family.unused(config).flatMap((name) => [name, `${name}.q8`, `${name}.q4`, `${name}.scales`]));
  for (const [parameter, parts] of storedParts(config, family)) {
    const format = storedFormat(source, parts);
    if (format !== undefined) {
      for (const { name, shape } of parts) {
        for (const { suffix } of weightParts(format, shape)) known.add(name + suffix);
        problems.push(...quantizedProblems(source, name, shape, format));
      }
      if (dtype !== undefined && dtype !== format)
        problems.push(
          `${parts.map(({ name }) => name).join(', ')} is stored as ${format} and cannot become ${dtype}; leave dtype out, or load the checkpoint it was made from`,
        );
      continue;
    }
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
  /**
   * What the matrices are kept in (linear layers, embedding and head): f32 unless said otherwise. A checkpoint that stores them as q8 or
   * q4 is loaded as it is, and refuses another dtype.
   */
  readonly dtype?: WeightDType;
  /** How the checkpoint is laid out; the sandwich when absent. `familyOf` tells by its names. */
  readonly family?: ModelFamily;
}

/**
 * Loads all parameters, two at a time where their bytes go to the device as they are, else one; f16 and bf16 become f32 unless `dtype` says otherwise. Throws ParamsError with every missing, extra and mis-shaped
 * name, or naming the tensor that holds NaN or infinite values; what was loaded by then is given back. Throws ModelSizeError, before
 * anything is read, where the device has no room for all parameters.
 */
export async function loadParams(
  device: Device,
  config: RecurrentConfig,
  source: TensorSource,
  options: LoadParamsOptions = {},
): Promise<RecurrentParams> {
  const { family = sandwich } = options;
  if (options.dtype !== undefined && !['f32', 'f16', 'bf16', 'q8', 'q4'].includes(options.dtype))
    throw new OptionError(`loadParams: dtype must be f32, f16, bf16, q8 or q4; got ${options.dtype}`);
  const problems = problemsOf(config, source, family, options.dtype);
  if (problems.length > 0) {
    const shown = problems.slice(0, 20).join('; ');
    const more = problems.length > 20 ? `; and ${problems.length - 20} more` : '';
    throw new ParamsError(`${source.name}: the tensors do not fit config.json: ${shown}${more}`);
  }
  const stored = storedParts(config, family);
  const quantized = [...stored.values()].some((parts) => storedFormat(source, parts) !== undefined);
  const keptIn = (name: string): WeightDType => storedFormat(source, stored.get(name)!) ?? options.dtype ?? 'f32';
  requireFit(source.name, config, device, quantized ? keptIn : (options.dtype ?? 'f32'), { family, stored: quantized });
  const parameters = parameterShapes(config, family);
  const matrices = options.dtype ?? 'f32';
  // While the last pieces of one parameter come, the first of the next are asked for; but where parameters are held on the host, one is enough.
  const lanes = [...stored].every(([name, parts]) => goesByPieces(source, parameters.get(name)!, parts, matrices)) ? 2 : 1;
  const tensors = new Map<string, Tensor>();
  const waiting = [...stored];
  const failures: unknown[] = [];
  const lane = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [name, parts] = next;
      try {
        options.signal?.throwIfAborted();
        tensors.set(name, await loadWeight(device, source, name, parameters.get(name)!, parts, matrices, options.signal));
        options.onProgress?.({ name, loaded: tensors.size, total: parameters.size });
      } catch (error) {
        waiting.length = 0;
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  if (failures.length > 0) {
    disposeTree(tensors);
    throw failures[0];
  }
  // In the order of the checkpoint, whichever came first.
  return paramsFromNames(new Map([...stored.keys()].map((name) => [name, tensors.get(name)!])));
}
