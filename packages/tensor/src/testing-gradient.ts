import { valueAndGrad } from './autograd.js';
import type { Device } from './device.js';
import { UnrollError } from './errors.js';
import { type AnyOp, apply1, type HostOperand } from './op.js';
import { mul } from './ops/binary.js';
import { sum } from './ops/reduce.js';
import { Generate, type Sample } from './sample.js';
import { showShape, sizeOf } from './shape.js';
import type { Tensor } from './tensor.js';
import type { Mismatch } from './testing.js';

// The references only read and write numbers, so that they run as they are on float64, where central differences keep 9 digits.
const wide = (shape: readonly number[], data?: ArrayLike<number>): HostOperand =>
  ({ shape, dtype: 'f32', data: data === undefined ? new Float64Array(sizeOf(shape)) : Float64Array.from(data) }) as unknown as HostOperand;

/** dL/dinput by central differences of the reference in float64, for L = the sum of weights times the first output. */
function differences(op: AnyOp, sample: Sample<unknown>, weights: Float32Array): (Float64Array | undefined)[] {
  const inputs = sample.inputs.map((input) => (input.dtype === 'f32' ? wide(input.shape, input.data) : input));
  const specs = op.infer(inputs, sample.attrs);
  const loss = () => {
    const outputs = specs.map(({ shape }) => wide(shape));
    op.reference(inputs, sample.attrs, outputs);
    return weights.reduce((total, weight, i) => total + weight * outputs[0]!.data[i]!, 0);
  };
  const step = 1e-5;
  return inputs.map(({ dtype, data }, n) => {
    if (dtype !== 'f32' || op.constants?.includes(n)) return undefined;
    const slope = new Float64Array(data.length);
    for (let i = 0; i < data.length; i++) {
      const at = data[i]!;
      data[i] = at + step;
      const above = loss();
      data[i] = at - step;
      slope[i] = (above - loss()) / (2 * step);
      data[i] = at;
    }
    return slope;
  });
}

async function checkSample(device: Device, op: AnyOp, sample: Sample<unknown>, weights: Float32Array): Promise<string | undefined> {
  const before = device.memory().buffers;
  const tensors: Tensor[] = sample.inputs.map((input) => device.tensor(input.data, input.shape, { dtype: input.dtype }));
  const params = tensors.filter(({ dtype }, n) => dtype === 'f32' && !op.constants?.includes(n));
  const [spec] = op.infer(sample.inputs, sample.attrs);
  const given = device.tensor(weights, spec!.shape);
  let message: string | undefined;
  let made: Tensor[] = [];
  try {
    const { value, grads } = valueAndGrad(() => sum(mul(apply1(op, tensors, sample.attrs, device), given)), params);
    made = [value, ...grads];
    const expected = differences(op, sample, weights).filter((slope) => slope !== undefined);
    for (const [p, slope] of expected.entries()) {
      const actual = await grads[p]!.data();
      // f32 keeps the large values of a gradient to 7 digits; small ones beside them lose what the large ones round.
      const scale = slope.reduce((most, one) => Math.max(most, Math.abs(one)), 1);
      for (let i = 0; i < slope.length && message === undefined; i++) {
        const error = Math.abs(actual[i]! - slope[i]!);
        if (!(error <= 1e-4 * Math.abs(slope[i]!) + 1e-5 * scale))
          message = `gradient ${p}, value ${i}: ${actual[i]}, differences give ${slope[i]}`;
      }
      if (actual.length !== slope.length) message = `gradient ${p} has ${actual.length} values for ${slope.length}`;
    }
  } catch (error) {
    message = `threw ${error}`;
  }
  for (const tensor of [...tensors, given, ...made]) tensor.dispose();
  const left = device.memory().buffers - before;
  return message ?? (left === 0 ? undefined : `${left} buffers are live after all was disposed`);
}

const finite = (values: ArrayLike<number>) => Array.from(values).every(Number.isFinite);

/**
 * Compares the gradient of one operation, taken on a device over its samples, with central differences of its reference in float64. Samples
 * with infinities, NaN or rounded weights are left out. [] when all is well. Throws UnrollError for an operation that has no gradient.
 */
export async function conformGradient(device: Device, op: AnyOp, seed: number): Promise<Mismatch[]> {
  if (typeof op.vjp !== 'function') throw new UnrollError(`conformGradient: ${op.name} has no gradient: ${op.vjp ?? 'nobody wrote one'}`);
  const mismatches: Mismatch[] = [];
  const generate = new Generate(seed + 1000);
  let checked = 0;
  for (const [i, sample] of op.samples(new Generate(seed)).entries()) {
    const [spec] = op.infer(sample.inputs, sample.attrs);
    // Through rounded weights there is no gradient; that it is refused is a test of its own.
    const rounded = sample.inputs.some(({ dtype }) => dtype !== 'f32' && dtype !== 'i32');
    if (rounded || spec!.dtype !== 'f32' || !sample.inputs.every(({ data }) => finite(data))) continue;
    checked++;
    const message = await checkSample(device, op, sample, generate.f32(spec!.shape).data as Float32Array);
    if (message === undefined) continue;
    const shapes = sample.inputs.map((input) => showShape(input.shape)).join(' ');
    mismatches.push({
      op: op.name,
      sample: i,
      message: `${message}; inputs ${shapes}, attrs ${JSON.stringify(sample.attrs)}, seed ${seed}`,
    });
  }
  if (checked === 0) throw new UnrollError(`conformGradient: no sample of ${op.name} was fit to check`);
  return mismatches;
}
