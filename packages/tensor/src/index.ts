export { checkpoint, grad, type LossResult, stopGradient, type ValueAndGrad, valueAndGrad, withoutGradient } from './autograd.js';
export { Device, type DeviceCapacity, type FromBytesOptions, type MemoryReport, type TensorOptions } from './device.js';
export type { DType, HostData, StorageDType, TypedArrayOf, WeightFormat } from './dtype.js';
export {
  DeviceLostError,
  DisposedError,
  DTypeError,
  GpuError,
  GradientError,
  OptionError,
  OutOfMemoryError,
  RangeOpError,
  refuseUnknownOptions,
  ShapeError,
  UnrollError,
  UnsupportedError,
} from './errors.js';
export { addNormGatedMatmul } from './ops/add-norm-gated-matmul.js';
export { addRmsNorm } from './ops/add-rms-norm.js';
export { type ArgmaxOptions, argmax } from './ops/argmax.js';
export { type AttentionOptions, attention } from './ops/attention.js';
export { add, div, maximum, minimum, mul, sub } from './ops/binary.js';
export { concatMatmul } from './ops/concat-matmul.js';
export { type CrossEntropyOptions, crossEntropy } from './ops/cross-entropy.js';
export { type DecodePool, decodeAttention } from './ops/decode-attention.js';
export {
  type AffineOptions,
  abs,
  affine,
  atan,
  exp,
  gelu,
  log,
  neg,
  reciprocal,
  relu,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sqrt,
  square,
  tanh,
} from './ops/elementwise.js';
export { gatedMatmul } from './ops/gated-matmul.js';
export { assign, concat, copy, permute, slice, split, transpose } from './ops/layout.js';
export { type MatmulOptions, matmul, matvec } from './ops/matmul.js';
export { addNormMatmul, normMatmul } from './ops/norm-matmul.js';
export { type RandomOptions, randomRows } from './ops/random.js';
export { logSumExp, max, mean, min, type ReduceOptions, sum } from './ops/reduce.js';
export { reshape } from './ops/reshape.js';
export { type RmsNormOptions, rmsNorm } from './ops/rms-norm.js';
export { type RopeLayout, type RopeOptions, rope, ropeTable } from './ops/rope.js';
export { gatherRows, scatterRows } from './ops/rows.js';
export { scatterAddRows } from './ops/scatter-add.js';
export { siluMul } from './ops/silu-mul.js';
export { softmax } from './ops/softmax.js';
export { topK } from './ops/top-k.js';
export type { ReadPiece } from './pieces.js';
export type { KernelTime } from './profile.js';
export type { Program, RecordOptions, ReplayValues } from './program.js';
export { dequantizeRows, quantizeRows, type WeightPart, weightParts } from './quant.js';
export { keep, tidy } from './scope.js';
export { type Shape, showShape, sizeOf } from './shape.js';
export { type MemoryKind, Tensor } from './tensor.js';
export { type RandomStream, randomKey, threefry2x32 } from './threefry.js';
export { disposeTree, forEachTensor, mapTensors } from './tree.js';
