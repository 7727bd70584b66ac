import type { CpuContext } from './cpu/context.js';
import type { Device } from './device.js';
import { type DType, type HostData, isWeightFormat } from './dtype.js';
import { DisposedError, DTypeError, UnrollError } from './errors.js';
import type { Vjp } from './gradient.js';
import type { Samples } from './sample.js';
import { type Shape, showShape } from './shape.js';
import type { Tensor } from './tensor.js';
import type { GpuDispatch } from './webgpu/kernel.js';
import type { GpuTraits } from './webgpu/traits.js';

export interface Spec {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** An operand of a reference: plain host memory. Of a weight format, the values that are stored. */
export interface HostOperand extends Spec {
  readonly data: HostData;
}

/** One operation, all of it: what it accepts, what it means, how each device runs it, and what it is tested with. */
export interface OpDef<A> {
  readonly name: string;
  /** The only validator: shapes and dtypes of the outputs, or a ShapeError or DTypeError. */
  infer(inputs: readonly Spec[], attrs: A): readonly Spec[];
  /** The plainest correct loop: the definition that every device is compared with. Outputs are zeroed before. */
  reference(inputs: readonly HostOperand[], attrs: A, outputs: readonly HostOperand[]): void;
  /** Runs the WebAssembly kernels. */
  cpu(context: CpuContext, inputs: readonly Tensor[], attrs: A, outputs: readonly Tensor[]): void;
  /** The dispatches of WebGPU. Called with arguments that `infer` has checked; gives nothing to do for empty outputs. */
  wgsl(inputs: readonly Tensor[], attrs: A, outputs: readonly Tensor[], traits: GpuTraits): readonly GpuDispatch[];
  /** The gradient, or a sentence that says why there is none. */
  readonly vjp?: Vjp<A> | string;
  /** Indices of f32 inputs that `vjp` gives no gradient for, such as a table of constants. */
  readonly constants?: readonly number[];
  /** The values that `vjp` reads: indices of inputs (all when absent), and whether the outputs (not when absent). */
  readonly saves?: { readonly inputs?: readonly number[]; readonly outputs?: boolean };
  /** Inputs and attributes for the conformance test and the bench. */
  readonly samples: Samples<A>;
  /** Indices of the inputs that are overwritten. */
  readonly mutates?: readonly number[];
  /** Index of the input that may be in a weight format; all others refuse them. */
  readonly weight?: number;
}

/** An operation whose attributes are its own affair. */
export type AnyOp = OpDef<unknown>;

/** Typed identity. */
export function defineOp<A>(op: OpDef<A>): OpDef<A> {
  return op;
}

/** Checks the arguments, makes the outputs and runs the operation on the device of its inputs. Every operation on tensors goes through here. */
export function apply<A>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A, on?: Device): Tensor[] {
  const device = on ?? inputs[0]?.device;
  // Plain loops here: small models spend more of their time in calls like this one than in kernels.
  for (let i = 0; i < inputs.length; i++) {
    const input = inputs[i]!;
    if (input?.device === undefined)
      throw new UnrollError(
        `${op.name}: input ${i} must be a tensor; got ${input === null ? 'null' : typeof input}${typeof input === 'number' ? '; affine(x, { scale, shift }) takes numbers, and device.tensor([value], []) makes a tensor of one' : ''}`,
      );
    if (input.device !== device) throw new UnrollError(`${op.name}: input ${i} is on another device than input 0; make both on one device`);
    if (input.disposed) {
      throw new DisposedError(
        `${op.name}: input ${i}, ${input.dtype}${showShape(input.shape)}, was disposed; keep it out of the scope that freed it, or return it from tidy()`,
      );
    }
  }
  for (let i = 0; i < inputs.length; i++) {
    if (i !== op.weight && isWeightFormat(inputs[i]!.dtype)) throw storedRefusal(op.name, i, inputs[i]!);
  }
  const specs = op.infer(inputs, attrs);
  if (device === undefined) throw new UnrollError(`${op.name}: no input says which device to run on`);
  if (device.disposed) throw new DisposedError(`${op.name}: the ${device.kind} device was disposed; create another`);
  for (const i of op.mutates ?? []) device.tape?.guard(op.name, inputs[i]!, inputs);
  const outputs: Tensor[] = [];
  try {
    for (const { shape, dtype } of specs) outputs.push(device.empty(shape, dtype));
    device.execute(op, inputs, attrs, outputs);
    device.tape?.record(op, inputs, attrs, outputs);
  } catch (error) {
    for (const output of outputs) output.dispose();
    throw error;
  }
  return outputs;
}

export function storedRefusal(who: string, input: number, { dtype, shape }: Spec): DTypeError {
  return new DTypeError(
    `${who}: input ${input} is ${dtype}${showShape(shape)}, a format that only matmul (as b, with transposeB) and gatherRows (as table) read; load this weight as f32`,
  );
}

/** `apply` for operations with one output. */
export function apply1<A>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A, on?: Device): Tensor {
  return apply(op, inputs, attrs, on)[0]!;
}

/** Throws DTypeError unless the inputs have exactly these dtypes; that of `weight` may be in a weight format where f32 is expected. */
export function expectDTypes(who: string, inputs: readonly Spec[], dtypes: readonly DType[], weight?: number): void {
  for (let i = 0; i < dtypes.length; i++) {
    const dtype = dtypes[i]!;
    const got = inputs[i]?.dtype;
    if (got === dtype) continue;
    if (got !== undefined && isWeightFormat(got)) {
      if (i !== weight) throw storedRefusal(who, i, inputs[i]!);
      continue;
    }
    throw new DTypeError(`${who}: input ${i} must be ${dtype}; got ${got}`);
  }
}
