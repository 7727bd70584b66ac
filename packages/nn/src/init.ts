import {
  type Device,
  type MemoryKind,
  OptionError,
  randomKey,
  randomRows,
  reshape,
  type Shape,
  scatterRows,
  sizeOf,
  type Tensor,
  threefry2x32,
  tidy,
} from '@unroll/tensor';

export interface NormalInit {
  /** Standard deviation before the cut. */
  readonly std: number;
  /** Cut at this many standard deviations. */
  readonly bound?: number;
  readonly seed: number;
  /** Which tensor of the model this is: each has numbers of its own under one seed. */
  readonly index: number;
  readonly memory?: MemoryKind;
}

/** A tensor of truncated normal values, a function of (seed, index, place in the tensor) alone. */
export function truncatedNormal(device: Device, shape: Shape, { std, bound = 3, seed, index, memory = 'weights' }: NormalInit): Tensor {
  if (!(std >= 0)) throw new OptionError(`truncatedNormal: std must be 0 or more; got ${std}`);
  const width = shape[shape.length - 1];
  if (width === undefined) throw new OptionError('truncatedNormal: the shape needs at least one axis');
  const rows = width === 0 ? 0 : sizeOf(shape) / width;
  const key = threefry2x32(randomKey(seed, 'init'), [index, 0]);
  const target = device.zeros(shape, { memory });
  const fill = () => {
    const count = (length: number) => device.tensor(Int32Array.from({ length }, (_, i) => i));
    const keys = device.tensor(
      new Int32Array(2 * rows).map((_, i) => key[i % 2]!),
      [rows, 2],
    );
    const drawn = randomRows(keys, count(rows), { distribution: 'truncatedNormal', width, std, bound });
    scatterRows(target, count(shape[0]!), reshape(drawn, shape));
  };
  try {
    tidy(device, fill);
    return target;
  } catch (error) {
    target.dispose();
    throw error;
  }
}

export function constant(device: Device, shape: Shape, value: number, memory: MemoryKind = 'weights'): Tensor {
  return device.tensor(new Float32Array(sizeOf(shape)).fill(value), shape, { memory });
}
