import { OptionError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { given } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { threefry2x32 } from '../threefry.js';
import { kernel, perThread, rowRanges } from '../webgpu/kernel.js';

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
  truncatedNormal: (bits, { std, bound }) =>
    std * Math.SQRT2 * erfinv((2 * (((bits >>> 9) + 0.5) / 2 ** 23) - 1) * erf(bound / Math.SQRT2)),
  gumbel: (bits) => -Math.log(bits < 2 ** 31 ? -Math.log1p(-(bits + 0.5) / 2 ** 32) : -Math.log((2 ** 32 - 1 - bits + 0.5) / 2 ** 32)),
};

const drawWgsl: Record<Distribution, string> = {
  uniform: 'uniform_of(bits)',
  truncatedNormal: 'p.deviation * (1.4142135623730951 * erfinv((2.0 * uniform_of(bits) - 1.0) * p.edge))',
  gumbel: 'gumbel_of(bits)',
};

// The formulas of kernels/random.ts, which says where they come from.
const helpersWgsl: Record<Distribution, string> = {
  uniform: '',
  truncatedNormal: `fn erfinv(x: f32) -> f32 {
  var w = -log_f((1.0 - x) * (1.0 + x));
  var q = 0.0;
  if (w < 5.0) {
    w -= 2.5;
    q = 2.81022636e-8;
    q = 3.43273939e-7 + q * w;
    q = -3.5233877e-6 + q * w;
    q = -4.39150654e-6 + q * w;
    q = 0.00021858087 + q * w;
    q = -0.00125372503 + q * w;
    q = -0.00417768164 + q * w;
    q = 0.246640727 + q * w;
    q = 1.50140941 + q * w;
  } else {
    w = sqrt(w) - 3.0;
    q = -0.000200214257;
    q = 0.000100950558 + q * w;
    q = 0.00134934322 + q * w;
    q = -0.00367342844 + q * w;
    q = 0.00573950773 + q * w;
    q = -0.0076224613 + q * w;
    q = 0.00943887047 + q * w;
    q = 1.00167406 + q * w;
    q = 2.83297682 + q * w;
  }
  return q * x;
}`,
  gumbel: `fn gumbel_of(bits: u32) -> f32 {
  var e = 0.0;
  if (bits < 0x80000000u) {
    let v = (f32(bits) + 0.5) * 2.3283064365386963e-10;
    // -log(1 - v) by its series where 1 - v would lose digits: the kernels of the CPU correct the rounding instead, which a shader compiler may undo.
    if (v < 0.01) { e = v * (1.0 + v * (0.5 + v * (0.33333333 + v * (0.25 + v * 0.2)))); } else { e = -log_f(1.0 - v); }
  } else {
    e = -log_f((f32(~bits) + 0.5) * 2.3283064365386963e-10);
  }
  return -log_f(e);
}`,
};

const randomKernel = (distribution: Distribution) =>
  kernel('randomRows', [distribution], () => ({
    params: { n: 'u32', width: 'u32', deviation: 'f32', edge: 'f32' },
    read: { keys: 'u32', positions: 'u32' },
    write: { y: 'f32' },
    uses: ['log'],
    outside: `fn turn(x: vec2u, r: u32) -> vec2u {
  let sum = x.x + x.y;
  return vec2u(sum, ((x.y << r) | (x.y >> (32u - r))) ^ sum);
}

fn threefry(k0: u32, k1: u32, c0: u32, c1: u32) -> vec2u {
  let k2 = k0 ^ k1 ^ 0x1bd11bdau;
  var x = vec2u(c0 + k0, c1 + k1);
  x = turn(turn(turn(turn(x, 13u), 15u), 26u), 6u) + vec2u(k1, k2 + 1u);
  x = turn(turn(turn(turn(x, 17u), 29u), 16u), 24u) + vec2u(k2, k0 + 2u);
  x = turn(turn(turn(turn(x, 13u), 15u), 26u), 6u) + vec2u(k0, k1 + 3u);
  x = turn(turn(turn(turn(x, 17u), 29u), 16u), 24u) + vec2u(k1, k2 + 4u);
  return turn(turn(turn(turn(x, 13u), 15u), 26u), 6u) + vec2u(k2, k0 + 5u);
}

fn uniform_of(bits: u32) -> f32 { return (f32(bits >> 9u) + 0.5) * 1.1920928955078125e-7; }
${helpersWgsl[distribution]}
fn draw(bits: u32) -> f32 { return ${drawWgsl[distribution]}; }`,
    body: `if (index >= p.n) { return; }
  let pairs = (p.width + 1u) / 2u;
  let row = index / pairs;
  let pair = index % pairs;
  let words = threefry(keys[2u * row], keys[2u * row + 1u], pair, positions[row]);
  let at = row * p.width + 2u * pair;
  y[at] = draw(words.x);
  if (2u * pair + 1u < p.width) { y[at + 1u] = draw(words.y); }`,
  }));

export const randomRowsOp = defineOp<RandomAttrs>({
  name: 'randomRows',
  infer(inputs, { distribution, width, bound, std }) {
    expectDTypes('randomRows', inputs, ['i32', 'i32']);
    const [keys, positions] = inputs as [Spec, Spec];
    if (!sameShape(keys.shape, [...positions.shape, 2])) {
      throw new ShapeError(
        `randomRows: keys must be (..., 2) for positions (...); got keys=${showShape(keys.shape)} positions=${showShape(positions.shape)}`,
      );
    }
    if (!distributions.includes(distribution))
      throw new OptionError(`randomRows: distribution must be one of ${distributions.join(', ')}; got ${distribution}`);
    if (!Number.isInteger(width) || width < 0) throw new ShapeError(`randomRows: width must be a whole number; got ${width}`);
    if (!(bound > 0 && bound <= 5) || !(std >= 0 && std < Number.POSITIVE_INFINITY))
      throw new OptionError(`randomRows: bound must be in (0, 5] and std a number from 0; got bound=${bound} std=${std}`);
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
  wgsl([keys, positions], { distribution, width, std, bound }, [out], traits) {
    if (out!.size === 0) return [];
    const edge = erf(bound / Math.SQRT2);
    const pairs = Math.ceil(width / 2);
    return rowRanges('randomRows', positions!.size, [width * 4, 8, 4], traits).map(({ rows, part }) =>
      perThread(randomKernel(distribution), rows * pairs, traits, {
        bind: [part(keys!, 8), part(positions!, 4), part(out!, width * 4)],
        params: { n: rows * pairs, width, deviation: std, edge },
      }),
    );
  },
  vjp: 'its values depend on no f32 input',
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
  | {
      readonly distribution: 'truncatedNormal';
      readonly width: number;
      readonly std: number /** Cut at this many standard deviations. */;
      readonly bound: number;
    };

/**
 * Random rows: keys (..., 2) i32 (see `randomKey`) and positions (...) i32 -> (..., width). Value c of a row is a function of its key,
 * its position and c alone (Threefry-2x32), never of call order: chunked = whole, batch = alone.
 * uniform is in the open interval (0, 1); truncatedNormal has mean 0 and standard deviation `std` before the cut at +-bound std.
 */
export function randomRows(keys: Tensor, positions: Tensor, options: RandomOptions): Tensor<'f32'> {
  refuseUnknownOptions(
    'randomRows',
    options,
    options.distribution === 'truncatedNormal' ? ['distribution', 'width', 'std', 'bound'] : ['distribution', 'width'],
  );
  return apply1(randomRowsOp, [keys, positions], { std: 1, bound: 3, ...options }) as Tensor<'f32'>;
}
