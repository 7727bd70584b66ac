import type { DType, HostData, WeightFormat } from './dtype.js';
import { dequantizeRows, quantizeRows } from './quant.js';
import { type Shape, sizeOf } from './shape.js';

export interface SampleInput {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: HostData;
  /** Of an input in a weight format, the parts that hold `data`. */
  readonly parts?: readonly Uint8Array[];
}

/** One call of an operation. Tolerance: |device - reference| <= absolute + relative * |reference|. */
export interface Sample<A> {
  readonly inputs: readonly SampleInput[];
  readonly attrs: A;
  readonly absolute?: number;
  readonly relative?: number;
}

/** Makes the samples of an operation from a generator, so that every seed gives other shapes and values. */
export type Samples<A> = (generate: Generate) => readonly Sample<A>[];

/** Seeded generator of shapes and values for samples (a 32-bit Weyl sequence with a murmur finaliser). */
export class Generate {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return ((x ^ (x >>> 16)) >>> 0) / 4294967296;
  }

  /** A whole number from low to high, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  /** f32 values, uniform in [low, high). */
  f32(shape: Shape, low = -2, high = 2): SampleInput {
    const data = new Float32Array(sizeOf(shape));
    for (let i = 0; i < data.length; i++) data[i] = low + (high - low) * this.next();
    return { shape, dtype: 'f32', data };
  }

  /** A matrix (N, K) in a weight format, of values that differ in size from row to row. */
  weight(shape: readonly [number, number], format: WeightFormat): SampleInput {
    const { data } = this.f32(shape, -1, 1);
    const [N, K] = shape;
    const parts = quantizeRows(
      format,
      (data as Float32Array).map((x, i) => x * (1 + (Math.floor(i / K) % 3))),
      K,
    );
    return { shape, dtype: format, data: dequantizeRows(format, parts, N, K), parts };
  }

  /** Rows of whole numbers with 127 or -127 in each group of 32: products with quantised weights see them as they are. */
  codes(shape: Shape): SampleInput {
    const width = shape[shape.length - 1]!;
    const data = new Float32Array(sizeOf(shape));
    for (let i = 0; i < data.length; i++) data[i] = (i % width) % 32 === 0 ? 127 * (2 * this.int(0, 1) - 1) : this.int(-127, 127);
    return { shape, dtype: 'f32', data };
  }

  /** K factors, a power of two for each group of 32. */
  steps(K: number): SampleInput {
    const groups = Array.from({ length: Math.ceil(K / 32) }, () => 2 ** this.int(-1, 1));
    return { shape: [K], dtype: 'f32', data: Float32Array.from({ length: K }, (_, k) => groups[Math.floor(k / 32)]!) };
  }

  /** i32 values from low to high, both included. */
  i32(shape: Shape, low: number, high: number): SampleInput {
    const data = new Int32Array(sizeOf(shape));
    for (let i = 0; i < data.length; i++) data[i] = this.int(low, high);
    return { shape, dtype: 'i32', data };
  }
}

export function given(data: HostData | readonly number[], shape: Shape = [data.length], dtype: DType = 'f32'): SampleInput {
  const typed =
    data instanceof Float32Array || data instanceof Int32Array ? data : dtype === 'i32' ? Int32Array.from(data) : Float32Array.from(data);
  return { shape, dtype: typed instanceof Int32Array ? 'i32' : 'f32', data: typed };
}
