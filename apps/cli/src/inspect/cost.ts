import { headDim, type ModelFamily, parameterShapes, type RecurrentConfig, sandwich, storedParts } from '@unroll/recurrent';
import { weightParts } from '@unroll/tensor';

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

/** Parameters of each part of a model. The head is 0 when it is the embedding. */
export interface PartSizes {
  readonly embedding: number;
  readonly prelude: number;
  readonly adapter: number;
  /** All layers of the core block, without the adapter, and an exit gate where there is one. */
  readonly core: number;
  readonly coda: number;
  readonly norm: number;
  readonly head: number;
  readonly total: number;
}

/** Counts parameters by part, from the shapes that the configuration asks for. */
export function partSizes(config: RecurrentConfig, family: ModelFamily = sandwich): PartSizes {
  const sums = { embedding: 0, prelude: 0, adapter: 0, core: 0, coda: 0, norm: 0, head: 0 };
  const partOf = (name: string): keyof typeof sums => {
    if (name === 'lm_head.weight') return 'head';
    if (name.startsWith('transformer.wte.')) return 'embedding';
    if (name.startsWith('transformer.prelude.')) return 'prelude';
    if (name.startsWith('transformer.adapter.')) return 'adapter';
    if (/^transformer\.(core_block|exit_gate)\./.test(name)) return 'core';
    return name.startsWith('transformer.coda.') ? 'coda' : 'norm';
  };
  for (const [name, shape] of parameterShapes(config, family)) sums[partOf(name)] += sizeOf(shape);
  return { ...sums, total: Object.values(sums).reduce((a, b) => a + b, 0) };
}

/** What one token costs at a depth. */
export interface DepthCost {
  readonly depth: number;
  /** Runs of a layer, which is also the number of key-value slots of a token under the policy `full`. */
  readonly layerCalls: number;
  /** Parameters of the equivalent model without sharing: the loop's counted once per recurrence, the embedding once, as head. */
  readonly materialised: number;
  /** Multiply-adds times two, of the matrices alone. */
  readonly flops: number;
  /** The same with attention over a full context. */
  readonly flopsFullContext: number;
  /** Bytes of keys and values of one token in f32 under the policy `full`. */
  readonly kvBytes: number;
}

/** Cost of one token at depth r: 2 FLOPs per materialised parameter, and per layer call 4 C for each key that attention reads. */
export function costAt(config: RecurrentConfig, depth: number, family: ModelFamily = sandwich): DepthCost {
  const parts = partSizes(config, family);
  const layerCalls = config.preludeLayers + depth * config.coreLayers + config.codaLayers;
  const once = parts.total - parts.core - parts.adapter - (config.tiedHead ? 0 : parts.embedding);
  const materialised = once + depth * (parts.core + parts.adapter);
  const flops = 2 * materialised;
  return {
    depth,
    layerCalls,
    materialised,
    flops,
    flopsFullContext: flops + layerCalls * 4 * config.width * config.contextLength,
    kvBytes: layerCalls * kvBytesPerSlot(config),
  };
}

/** Bytes of one token's keys and values in one slot, in f32. */
export const kvBytesPerSlot = (config: RecurrentConfig): number => 2 * config.kvHeads * headDim(config) * 4;

export interface TensorRow {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string | null;
  /** How the file differs from what config.json asks for; null where it does not. */
  readonly problem: string | null;
  /** Why loading leaves the tensor out; null where it does not. */
  readonly unused: string | null;
}

type Entries = ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[] }>;

/** Every tensor of the file and every one that the model is made of, with what does not fit. Tensors that loading drops are no problem. */
export function tensorRows(config: RecurrentConfig, entries: Entries, family: ModelFamily = sandwich): TensorRow[] {
  const seen = new Set<string>();
  const rows = [...storedParts(config, family).values()].flat().map(({ name, shape }): TensorRow => {
    const format = (['q8', 'q4'] as const).find((one) => shape.length === 2 && !entries.has(name) && entries.has(`${name}.${one}`));
    if (format !== undefined) {
      const parts = weightParts(format, shape).map((part) => ({ ...part, found: entries.get(name + part.suffix) }));
      for (const { suffix } of parts) seen.add(name + suffix);
      const bad = parts.find(({ found, dtype, shape: must }) => found?.dtype !== dtype || found.shape.join() !== must.join());
      const problem = bad === undefined ? null : `${name}${bad.suffix} must be ${bad.dtype} [${bad.shape}]`;
      return { name, shape, dtype: format.toUpperCase(), problem, unused: null };
    }
    seen.add(name);
    const entry = entries.get(name);
    if (entry === undefined) return { name, shape, dtype: null, problem: 'missing from the file', unused: null };
    const fits = entry.shape.join() === shape.join();
    return { name, shape: entry.shape, dtype: entry.dtype, problem: fits ? null : `must be [${shape}]`, unused: null };
  });
  const dropped = new Map(
    family
      .unused(config)
      .map((name) => [name, name === 'lm_head.weight' ? 'not loaded: the head is the embedding' : 'not loaded: computed here']),
  );
  for (const [name, { dtype, shape }] of entries) {
    if (seen.has(name)) continue;
    const why = dropped.get(name) ?? null;
    rows.push({ name, shape, dtype, problem: why === null ? 'not part of the model' : null, unused: why });
  }
  return rows;
}
