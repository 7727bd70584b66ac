import { OptionError, ShapeError } from '../errors.js';
import { apply, defineOp, expectDTypes, type Spec } from '../op.js';
import type { Sample } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perGroup, rowRanges } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';

interface AddRmsNormAttrs {
  readonly eps: number;
}

const addRmsNormKernel = (twice: boolean) =>
  kernel('addRmsNorm', [twice ? 2 : 1], () => ({
    params: { rows: 'u32', C: 'u32', eps: 'f32' },
    read: { a: 'f32', b: 'f32', w: 'f32', ...(twice ? { w2: 'f32' } : {}) },
    write: { y: 'f32', ...(twice ? { y2: 'f32' } : {}) },
    workgroup: 128,
    outside: 'var<workgroup> sums: array<vec2f, 128>;',
    body: `if (group >= p.rows) { return; }
  let start = group * p.C;
  // The second norm is over the first one's output: its sum of squares is gathered without the factor that is not known yet.
  var sum = vec2f();
  for (var c = lane; c < p.C; c += 128u) {
    let v = a[start + c] + b[start + c];
    let scaled = v * w[c];
    sum += vec2f(v * v, scaled * scaled);
  }
  sums[lane] = sum;
  ${treeReduction('sums', 128, 'a + b')}
  let scale = inverseSqrt(sums[0].x / f32(p.C) + p.eps);
  ${twice ? 'let scale2 = inverseSqrt(scale * scale * sums[0].y / f32(p.C) + p.eps);' : ''}
  for (var c = lane; c < p.C; c += 128u) {
    let v = (a[start + c] + b[start + c]) * scale * w[c];
    y[start + c] = v;
    ${twice ? 'y2[start + c] = v * scale2 * w2[c];' : ''}
  }`,
  }));

/** Checks a + b, (..., C), and the weights (C). */
export function checkAddNorm(who: string, [a, b, ...weights]: readonly Spec[], eps: number): void {
  const C = a!.shape[a!.shape.length - 1];
  if (C === undefined || !sameShape(a!.shape, b!.shape) || weights.some(({ shape }) => shape.length !== 1 || shape[0] !== C)) {
    throw new ShapeError(
      `${who}: a and b must be alike (..., C) and the weights (C); got a=${showShape(a!.shape)} b=${showShape(b!.shape)} weights=${weights.map(({ shape }) => showShape(shape)).join(' ')}`,
    );
  }
  if (!(eps >= 0 && eps < Number.POSITIVE_INFINITY)) throw new OptionError(`${who}: eps must be a number from 0; got ${eps}`);
}

/** out (rows, C) = rmsNorm(x) in plain loops; `out` may be x. */
export function normRows(x: ArrayLike<number>, w: ArrayLike<number>, out: { [i: number]: number }, eps: number): void {
  const C = w.length;
  for (let start = 0; start < x.length; start += C) {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += x[start + c]! ** 2;
    const scale = 1 / Math.sqrt(sum / C + eps);
    for (let c = 0; c < C; c++) out[start + c] = x[start + c]! * scale * w[c]!;
  }
}

export const addRmsNormOp = defineOp<AddRmsNormAttrs>({
  name: 'addRmsNorm',
  infer(inputs, { eps }) {
    if (inputs.length !== 3 && inputs.length !== 4) throw new ShapeError(`addRmsNorm: takes one weight or two; got ${inputs.length - 2}`);
    expectDTypes('addRmsNorm', inputs, ['f32', 'f32', 'f32', ...(inputs.length === 4 ? (['f32'] as const) : [])]);
    checkAddNorm('addRmsNorm', inputs, eps);
    return inputs
      .slice(3)
      .concat(inputs[0]!)
      .map(() => inputs[0]!);
  },
  reference([a, b, w, w2], { eps }, [y, y2]) {
    normRows(
      a!.data.map((v, i) => v + b!.data[i]!),
      w!.data,
      y!.data,
      eps,
    );
    if (w2 !== undefined) normRows(y!.data, w2.data, y2!.data, eps);
  },
  cpu(c, [a, b, w, w2], { eps }, [y, y2]) {
    if (a!.size === 0) return;
    const [C, out] = [w!.size, c.at(y!)];
    c.kernels.binary(0, c.at(a!), c.at(b!), out, 1, c.integers([a!.size, 1, 1]), 0, a!.size);
    c.kernels.rmsNorm(out, c.at(w!), out, C, eps, 0, a!.size / C);
    if (w2 !== undefined) c.kernels.rmsNorm(out, c.at(w2), c.at(y2!), C, eps, 0, a!.size / C);
  },
  wgsl([a, b, w, w2], { eps }, [y, y2], traits) {
    if (a!.size === 0) return [];
    const C = w!.size;
    const weights = w2 === undefined ? [w!] : [w!, w2];
    const outputs = y2 === undefined ? [y!] : [y!, y2];
    return rowRanges('addRmsNorm', a!.size / C, [C * 4], traits).map(({ rows, part }) =>
      perGroup(addRmsNormKernel(w2 !== undefined), rows, traits, {
        bind: [part(a!, C * 4), part(b!, C * 4), ...weights, ...outputs.map((output) => part(output, C * 4))],
        params: { rows, C, eps },
      }),
    );
  },
  vjp: 'it keeps no sum; for a gradient use rmsNorm(add(a, b), weight)',
  samples(g) {
    const C = g.int(1, 40);
    const samples: Sample<AddRmsNormAttrs>[] = [];
    for (const shape of [[1], [C], [g.int(1, 5), C], [2, 3, 64], [0, 8], [3, 0]]) {
      for (const weights of [1, 2]) {
        const w = () => g.f32([shape[shape.length - 1]!], 0.5, 1.5);
        const inputs = [g.f32(shape), g.f32(shape), ...Array.from({ length: weights }, w)];
        samples.push({ inputs, attrs: { eps: 1e-6 }, absolute: 2e-6, relative: 1e-5 });
      }
    }
    return samples;
  },
});

/**
 * y = rmsNorm(a + b, weight), and with a second weight rmsNorm(y, weight2) beside it: a residual sum and the norms that follow on it. a and
 * b (..., C), weights (C).
 */
export function addRmsNorm(a: Tensor, b: Tensor, weights: readonly [Tensor], options: { readonly eps: number }): [Tensor<'f32'>];
export function addRmsNorm(
  a: Tensor,
  b: Tensor,
  weights: readonly [Tensor, Tensor],
  options: { readonly eps: number },
): [Tensor<'f32'>, Tensor<'f32'>];
export function addRmsNorm(a: Tensor, b: Tensor, weights: readonly Tensor[], { eps }: { readonly eps: number }): Tensor[] {
  return apply(addRmsNormOp, [a, b, ...weights], { eps });
}
