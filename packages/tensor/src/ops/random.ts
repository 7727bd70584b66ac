import { OptionError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { given } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { threefry2x32 } from '../threefry.js';

// The order is the code that the kernel knows them by.
const distributions = ['uniform', 'truncatedNormal', 'gumbel'] as const;
export type Distribution = (typeof distributions)[number];

interface RandomAttrs {
  readonly distribution: Distribution;
  readonly width: number;
  readonly std: number;
  readonly bound: number;
}

/** The error function by its power series: exact to 1e-12 for |x| <= 4, enough for the bounds used here. */
function erf(x: number): number {
  let term = x;
  let total = x;
  for (let n = 1; n < 200 && Math.abs(term) > 1e-18; n++) {
    term *= -(x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

/** Inverse of erf by bisection: slow and sure, for the reference. */
function erfinv(y: number): number {
  let low = -4;
  let high = 4;
  for (let i = 0; i < 60; i++) {
    const mid = (low + high) / 2;
    if (erf(mid) < y) low = mid;
    else high = mid;
  }
  return (low + high) / 2;
}

const values: Record<Distribution, (bits: number, attrs: RandomAttrs) => number> = {
  uniform: (bits) => ((bits >>> 9) + 0.5) / 2 ** 23,
  truncatedNormal: (bits, { std, bound }) => std * Math.SQRT2 * erfinv((2 * (((bits >>> 9) + 0.5) / 2 ** 23) - 1) * erf(bound / Math.SQRT2)),
  gumbel: (bits) => -Math.log(bits < 2 ** 31 ? -Math.log1p(-(bits + 0.5) / 2 ** 32) : -Math.log((2 ** 32 - 1 - bits + 0.5) / 2 ** 32)),
};

export const randomRowsOp = defineOp<RandomAttrs>({
  name: 'randomRows',
  infer(inputs, { width, bound, std }) {
    expectDTypes('randomRows', inputs, ['i32', 'i32']);
    const [keys, positions] = inputs as [Spec, Spec];
    if (!sameShape(keys.shape, [...positions.shape, 2])) {
      throw new ShapeError(`randomRows: keys must be (..., 2) for positions (...); got keys=${showShape(keys.shape)} positions=${showShape(positions.shape)}`);
    }
    if (!Number.isInteger(width) || width < 0) throw new ShapeError(`randomRows: width must be a whole number; got ${width}`);
    if (!(bound > 0 && bound <= 5) || !(std >= 0)) throw new OptionError(`randomRows: bound must be in (0, 5] and std >= 0; got bound=${bound} std=${std}`);
    return [{ shape: [...positions.shape, width], dtype: 'f32' }];
  },
  reference([keys, positions], attrs, [out]) {
    for (let n = 0; n < positions!.data.length; n++) {
      for (let c = 0; c < attrs.width; c++) {
        const words = threefry2x32([keys!.data[2 * n]!, keys!.data[2 * n + 1]!], [c >> 1, positions!.data[n]!]);
        out!.data[n * attrs.width + c] = values[attrs.distribution](words[c & 1]!, attrs);
      }
    }
  },
  cpu(c, [keys, positions], { distribution, width, std, bound }, [out]) {
    const edge = erf(bound / Math.SQRT2);
    c.kernels.random(distributions.indexOf(distribution), c.at(keys!), c.at(positions!), c.at(out!), positions!.size, width, std, edge);
  },
  samples(g) {
    return distributions.flatMap((distribution) => {
      const attrs = { distribution, width: g.int(1, 33), std: 0.632, bound: 3 };
      // The cut ends of the normal amplify rounding in 1 - |x|: their slope is 80 times that of the middle.
      const close = { absolute: distribution === 'truncatedNormal' ? 2e-5 : 2e-6, relative: 5e-6 };
      return [
        { inputs: [g.i32([3, 2], -2147483648, 2147483647), g.i32([3], 0, 4095)], attrs, ...close },
        { inputs: [g.i32([2, 2, 2], 0, 99), g.i32([2, 2], -1, 9)], attrs, ...close },
        { inputs: [given([1, 2], [1, 2], 'i32'), given([0], [1], 'i32')], attrs: { ...attrs, width: 600 }, ...close },
        { inputs: [given([], [0, 2], 'i32'), given([], [0], 'i32')], attrs, ...close },
      ];
    });
  },
});

export type RandomOptions =
  | { readonly distribution: 'uniform' | 'gumbel'; readonly width: number }
  | { readonly distribution: 'truncatedNormal'; readonly width: number; readonly std: number; /** Cut at this many standard deviations. */ readonly bound: number };

/**
 * Random rows: keys (..., 2) i32 (see `randomKey`) and positions (...) i32 -> (..., width). Value c of a row is a function of its key,
 * its position and c alone (Threefry-2x32), never of call order: chunked = whole, batch = alone.
 * uniform is in the open interval (0, 1); truncatedNormal has mean 0 and standard deviation `std` before the cut at +-bound std.
 */
export function randomRows(keys: Tensor, positions: Tensor, options: RandomOptions): Tensor<'f32'> {
  refuseUnknownOptions('randomRows', options, ['distribution', 'width', 'std', 'bound']);
  return apply1(randomRowsOp, [keys, positions], { std: 1, bound: 3, ...options }) as Tensor<'f32'>;
}
