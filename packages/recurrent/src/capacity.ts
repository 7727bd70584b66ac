import { type Device, type DeviceCapacity, OutOfMemoryError, weightParts } from '@unroll/tensor';
import { headDim, type RecurrentConfig } from './config.js';
import { type ModelFamily, sandwich } from './family.js';
import type { WeightDType } from './load-weight.js';
import { isMatrix, parameterShapes } from './shapes.js';

/** A model that a device has no room for. Thrown before anything is read or allocated. */
export class ModelSizeError extends OutOfMemoryError {
  constructor(
    message: string,
    readonly fit: Fit,
    /** What the matrices could be kept in instead. */
    readonly fitting: readonly WeightDType[],
  ) {
    super(message);
  }
}

/** Whether the parameters of a model have room on a device. */
export interface Fit {
  readonly fits: boolean;
  /** Bytes of the parameters and the rotary table, as the device rounds them. */
  readonly needed: number;
  /** Bytes that the device has left; Infinity where it cannot tell. */
  readonly had: number;
  /** A parameter that is larger than the device's largest tensor. */
  readonly tooLarge: { readonly name: string; readonly bytes: number; readonly most: number } | undefined;
}

const FORMATS: readonly WeightDType[] = ['f32', 'f16', 'bf16', 'q8', 'q4'];

/** Bytes of a parameter: matrices in the dtype, all others in f32. */
export function bytesOf(shape: readonly number[], dtype: WeightDType): number {
  if (dtype === 'f32' || !isMatrix(shape)) return 4 * shape.reduce((product, n) => product * n, 1);
  const last = weightParts(dtype, shape).at(-1)!;
  return last.offset + last.bytes;
}

/** What a device says of itself; a `Device` will do. */
interface Holder extends Pick<Device, 'memory'> {
  readonly capacity: Pick<DeviceCapacity, 'bytes' | 'tensorBytes' | 'taken'>;
}

/** Whether a model's parameters have room on a device, from its configuration alone. `dtype` may differ from matrix to matrix. */
export function fitOf(
  config: RecurrentConfig,
  device: Holder,
  dtype: WeightDType | ((parameter: string) => WeightDType),
  family: ModelFamily = sandwich,
): Fit {
  const { bytes: most, tensorBytes, taken } = device.capacity;
  const { weights, kv, scratch } = device.memory().bytes;
  const keptIn = typeof dtype === 'string' ? () => dtype : dtype;
  let needed = 0;
  let tooLarge: Fit['tooLarge'];
  const add = (name: string, bytes: number) => {
    if (bytes > tensorBytes) {
      if (bytes > (tooLarge?.bytes ?? 0)) tooLarge = { name, bytes, most: tensorBytes };
      needed += bytes;
    } else needed += taken(bytes);
  };
  for (const [name, shape] of parameterShapes(config, family)) add(name, bytesOf(shape, keptIn(name)));
  add('the rotary table', config.contextLength * headDim(config) * 4);
  const had = Math.max(0, most - weights - kv - scratch);
  return { fits: tooLarge === undefined && needed <= had, needed, had, tooLarge };
}

/** The formats of matrices in which a model has room on a device, the widest first. */
export const fittingFormats = (config: RecurrentConfig, device: Holder, family?: ModelFamily): WeightDType[] =>
  FORMATS.filter((dtype) => fitOf(config, device, dtype, family).fits);

/** Refuses a model that has no room. `stored` says that the checkpoint itself is quantised. Throws ModelSizeError. */
export function requireFit(
  who: string,
  config: RecurrentConfig,
  device: Device,
  dtype: WeightDType | ((parameter: string) => WeightDType),
  options: { readonly family: ModelFamily; readonly stored: boolean },
): void {
  const fit = fitOf(config, device, dtype, options.family);
  if (fit.fits) return;
  const fitting = fittingFormats(config, device, options.family);
  const name = options.stored ? 'as it is stored' : `in ${typeof dtype === 'string' ? dtype : 'the formats it is stored in'}`;
  const why =
    fit.tooLarge === undefined
      ? `its parameters take ${fit.needed} bytes ${name}, and ${fit.had} are left on the ${device.kind} device`
      : `${fit.tooLarge.name} takes ${fit.tooLarge.bytes} bytes ${name}, and a tensor may have ${fit.tooLarge.most} on the ${device.kind} device`;
  const from = options.stored ? ', from the checkpoint that this one was made from' : '';
  const [widest] = fitting;
  const smallest = fitOf(config, device, 'q4', options.family).needed;
  const advice =
    widest === undefined
      ? `even q4 takes ${smallest} bytes: use a smaller model, or another device`
      : `${fitting.map((format) => `${format} (${fitOf(config, device, format, options.family).needed} bytes)`).join(', ')} would fit: load it with that dtype${from}`;
  throw new ModelSizeError(`${who}: no room for the model: ${why} (${device.capacity.why}); ${advice}`, fit, fitting);
}
