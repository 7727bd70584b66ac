import type { Device } from './device.js';
import { allocateHost, type HostData, isWeightFormat } from './dtype.js';
import { UnrollError } from './errors.js';
import { type AnyOp, apply, type OpDef, type Spec } from './op.js';
import { opList } from './ops/list.js';
import { Generate, type Sample, type SampleInput } from './sample.js';
import { showShape, sizeOf } from './shape.js';
import type { Tensor } from './tensor.js';

export type { CpuContext } from './cpu/context.js';
export type { Kernels } from './cpu/kernels.js';
export { type AnyOp, defineOp, type HostOperand, type OpDef, type Spec } from './op.js';
export { opList } from './ops/list.js';
export { Generate, given, type Sample, type SampleInput, type Samples } from './sample.js';
export { conformGradient } from './testing-gradient.js';
export { findLeaks, type Leak } from './testing-memory.js';

/** A sample on which a device and the reference differ. */
export interface Mismatch {
  readonly op: string;
  /** Index among the samples of the seed. */
  readonly sample: number;
  readonly message: string;
}

/** |a - b| within the sample's tolerance; NaN equals NaN, infinities must be equal. */
function close(actual: number, expected: number, absolute: number, relative: number): boolean {
  if (Number.isNaN(expected) || Number.isNaN(actual)) return Number.isNaN(expected) && Number.isNaN(actual);
  if (!Number.isFinite(expected) || !Number.isFinite(actual)) return actual === expected;
  return Math.abs(actual - expected) <= absolute + relative * Math.abs(expected);
}

function firstDifference(actual: HostData, expected: HostData, sample: Sample<unknown>): string | undefined {
  for (let i = 0; i < expected.length; i++) {
    if (!close(actual[i]!, expected[i]!, sample.absolute ?? 0, sample.relative ?? 0)) {
      return `value ${i} is ${actual[i]}, the reference gives ${expected[i]}`;
    }
  }
  return actual.length === expected.length ? undefined : `${actual.length} values, the reference gives ${expected.length}`;
}

/** What the plain reference of an operation gives for a sample: its outputs, then the overwritten inputs. */
export function referenceOutputs<A>(op: OpDef<A>, sample: Sample<A>): HostData[] {
  const inputs = sample.inputs.map((input) => ({ ...input, data: input.data.slice() }));
  const outputs = op.infer(inputs, sample.attrs).map((spec) => ({ ...spec, data: allocateHost(spec.dtype, sizeOf(spec.shape)) }));
  op.reference(inputs, sample.attrs, outputs);
  return [...outputs, ...(op.mutates ?? []).map((i) => inputs[i]!)].map(({ data }) => data);
}

/** The tensor of a sample's input. */
export function tensorOf(device: Device, { data, shape, dtype, parts }: SampleInput): Tensor {
  return parts === undefined
    ? device.tensor(data, shape, { dtype })
    : device.fromBytes(parts, dtype, shape, isWeightFormat(dtype) ? { as: dtype } : {});
}

const sameBits = (a: HostData, b: HostData) => {
  const words = (data: HostData) => new Int32Array(data.buffer, data.byteOffset, data.length);
  const other = words(b);
  return words(a).every((word, i) => word === other[i]);
};

/** Leaves NaN in the free block that an output is likely to get, so that values which nobody writes are seen. */
function poison(device: Device, specs: readonly Spec[]): void {
  const blocks = specs.map(({ shape }) => device.tensor(new Float32Array(sizeOf(shape)).fill(Number.NaN), shape));
  for (const block of blocks.reverse()) block.dispose();
}

async function compare<A>(
  op: OpDef<A>,
  sample: Sample<A>,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
): Promise<string | undefined> {
  const expected = referenceOutputs(op, sample);
  const compared = [...outputs, ...(op.mutates ?? []).map((i) => inputs[i]!)];
  for (const [i, tensor] of compared.entries()) {
    const difference = firstDifference(await tensor.data(), expected[i]!, sample);
    if (difference !== undefined) return `output ${i}: ${difference}`;
  }
  for (const [i, tensor] of inputs.entries()) {
    if (!op.mutates?.includes(i) && !sameBits(await tensor.data(), sample.inputs[i]!.data)) return `input ${i} was changed`;
  }
  return undefined;
}

async function runSample<A>(device: Device, op: OpDef<A>, sample: Sample<A>): Promise<string | undefined> {
  const before = device.memory().buffers;
  const inputs: Tensor[] = sample.inputs.map((input) => tensorOf(device, input));
  let outputs: Tensor[] = [];
  let message: string | undefined;
  try {
    poison(device, op.infer(inputs, sample.attrs));
    outputs = apply(op, inputs, sample.attrs, device);
    const made = device.memory().buffers - before - inputs.length;
    message =
      made === outputs.length
        ? await compare(op, sample, inputs, outputs)
        : `${made} buffers are live beyond the inputs; ${outputs.length} outputs were made`;
  } catch (error) {
    message = `threw ${error}`;
  }
  for (const tensor of [...outputs, ...inputs]) tensor.dispose();
  const left = device.memory().buffers - before;
  return message ?? (left === 0 ? undefined : `${left} buffers are live after all was disposed`);
}

/** Runs the samples of one operation on a device against its reference: values, unchanged inputs, balanced buffers. [] when all is well. */
export async function conform(device: Device, op: AnyOp, seed: number): Promise<Mismatch[]> {
  const mismatches: Mismatch[] = [];
  const samples = op.samples(new Generate(seed));
  if (samples.length === 0) throw new UnrollError(`conform: ${op.name} has no samples`);
  for (const [i, sample] of samples.entries()) {
    const message = await runSample(device, op, sample);
    if (message !== undefined) {
      const shapes = sample.inputs.map((input) => showShape(input.shape)).join(' ');
      mismatches.push({
        op: op.name,
        sample: i,
        message: `${message}; inputs ${shapes}, attrs ${JSON.stringify(sample.attrs)}, seed ${seed}`,
      });
    }
  }
  return mismatches;
}

/** `conform` over the whole operation list. */
export async function conformAll(device: Device, seed: number): Promise<Mismatch[]> {
  const mismatches: Mismatch[] = [];
  for (const op of opList) mismatches.push(...(await conform(device, op, seed)));
  return mismatches;
}
