import { fullPolicy, type KVPolicy, slotsOf } from '@unroll/nn';
import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { bytesOf } from './capacity.js';
import { checkRecurrences, headDim, type RecurrentConfig } from './config.js';
import { type ModelFamily, sandwich } from './family.js';
import type { WeightDType } from './load-weight.js';
import { parameterShapes } from './shapes.js';

export interface EstimateOptions {
  /** What matrices are kept in. */
  readonly dtype: WeightDType;
  /** Depth r; the model's mean when absent. */
  readonly recurrences?: number;
  readonly family?: ModelFamily;
  /** Whose slots are counted; every layer call's own when absent. */
  readonly policy?: KVPolicy;
  /** Of the device, as measured. */
  readonly rates?: EstimateRates;
}

/** What a device does in a second. */
export interface EstimateRates {
  /** Weights of a matrix that a product with one row gets through, in the dtype of the estimate. */
  readonly weightsPerSecond: number;
  /** Bytes that it reads from memory, where that is known. */
  readonly bytesPerSecond?: number;
}

export interface Estimate {
  readonly parameters: number;
  /** Bytes of all parameters on the device, without the rotary table. */
  readonly weightBytes: number;
  /** Bytes of keys and values (f32) that one token keeps. */
  readonly kvBytesPerToken: number;
  /** Weights that one new token goes through: prelude, coda and head once, the loop r times. */
  readonly weightsPerToken: number;
  /** The bytes of those. */
  readonly bytesPerToken: number;
  /** Two for each of those, without attention. */
  readonly flopsPerToken: number;
  /** The slower of weights by their rate and bytes by theirs; undefined without rates. */
  readonly secondsPerToken: number | undefined;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

/** What a model of this configuration takes and costs: arithmetic alone, nothing is loaded. Throws OptionError for bad depths and rates. */
export function estimate(config: RecurrentConfig, options: EstimateOptions): Estimate {
  refuseUnknownOptions('estimate', options, ['dtype', 'recurrences', 'family', 'policy', 'rates']);
  const { dtype, recurrences: r = config.meanRecurrence, family = sandwich, policy = fullPolicy, rates } = options;
  checkRecurrences('estimate', r);
  const sums = { parameters: 0, weightBytes: 0, weights: 0, bytes: 0 };
  for (const [name, shape] of parameterShapes(config, family)) {
    const [size, bytes] = [sizeOf(shape), bytesOf(shape, dtype)];
    sums.parameters += size;
    sums.weightBytes += bytes;
    if (shape.length !== 2) continue;
    // A token reads one row of an embedding that is not the head as well.
    const times = name === 'transformer.wte.weight' && !config.tiedHead ? 0 : inLoop(name) ? r : 1;
    sums.weights += times * size;
    sums.bytes += times * bytes;
  }
  const layers = { prelude: config.preludeLayers, core: config.coreLayers, coda: config.codaLayers };
  return {
    parameters: sums.parameters,
    weightBytes: sums.weightBytes,
    kvBytesPerToken: slotsOf(policy, layers, r, true) * 2 * config.kvHeads * headDim(config) * 4,
    weightsPerToken: sums.weights,
    bytesPerToken: sums.bytes,
    flopsPerToken: 2 * sums.weights,
    secondsPerToken: rates === undefined ? undefined : secondsOf(sums, rates),
  };
}

const inLoop = (name: string): boolean => /^transformer\.(adapter|own|core_block|exit_gate)\./.test(name);

function secondsOf({ weights, bytes }: { weights: number; bytes: number }, { weightsPerSecond, bytesPerSecond }: EstimateRates): number {
  if (!(weightsPerSecond > 0) || !(bytesPerSecond === undefined || bytesPerSecond > 0)) {
    throw new OptionError(`estimate: rates must be above 0; got ${weightsPerSecond} weights and ${bytesPerSecond} bytes a second`);
  }
  return Math.max(weights / weightsPerSecond, bytesPerSecond === undefined ? 0 : bytes / bytesPerSecond);
}

/** The largest depth at which a token takes no longer than 1 / tokensPerSecond; 0 where one loop takes longer. Throws OptionError. */
export function largestDepth(
  config: RecurrentConfig,
  tokensPerSecond: number,
  options: EstimateOptions & { readonly rates: EstimateRates },
): number {
  if (!(tokensPerSecond > 0)) throw new OptionError(`largestDepth: tokensPerSecond must be above 0; got ${tokensPerSecond}`);
  const seconds = (recurrences: number) => estimate(config, { ...options, recurrences }).secondsPerToken!;
  // Both costs are straight lines in the depth, but their maximum is not.
  let [low, high] = [0, 65536];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (seconds(middle) * tokensPerSecond <= 1) low = middle;
    else high = middle - 1;
  }
  return low;
}
