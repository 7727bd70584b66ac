import { OptionError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { given } from '../sample.js';
import { checkShape, sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perThread, rowRanges } from '../webgpu/kernel.js';

/** Which values turn together: (2i, 2i+1), or (i, i + D/2). */
export type RopeLayout = 'interleaved' | 'half';

export interface RopeOptions {
  readonly layout: RopeLayout;
}

interface RopeAttrs extends RopeOptions {
  /** Rotate the other way: what the gradient needs. */
  readonly back: boolean;
}

const ropeKernel = (layout: RopeLayout) =>
  kernel('rope', [layout], () => ({
    params: { n: 'u32', H: 'u32', half: 'u32', P: 'u32', turn: 'f32' },
    read: { x: 'f32', table: 'f32', positions: 'i32' },
    write: { y: 'f32' },
    body: `if (index >= p.n) { return; }
  let i = index % p.half;
  let head = index / p.half;
  let position = positions[head / p.H];
  var c = 1.0;
  var s = 0.0;
  if (position >= 0 && position < i32(p.P)) {
    let at = 2u * (u32(position) * p.half + i);
    c = table[at];
    s = p.turn * table[at + 1u];
  }
  let first = head * p.half * 2u + ${layout === 'interleaved' ? '2u * i' : 'i'};
  let second = first + ${layout === 'interleaved' ? '1u' : 'p.half'};
  let u = x[first];
  let v = x[second];
  y[first] = u * c - v * s;
  y[second] = u * s + v * c;`,
  }));

export const ropeOp = defineOp<RopeAttrs>({
  name: 'rope',
  infer(inputs, { layout }) {
    expectDTypes('rope', inputs, ['f32', 'f32', 'i32']);
    const [x, table, positions] = inputs as [Spec, Spec, Spec];
    const D = x.shape[x.shape.length - 1];
    const fits =
      x.shape.length >= 2 &&
      D! % 2 === 0 &&
      table.shape.length === 3 &&
      table.shape[1] === D! / 2 &&
      table.shape[2] === 2 &&
      sameShape(positions.shape, x.shape.slice(0, -2));
    if (!fits) {
      throw new ShapeError(
        `rope: x must be (..., H, D) with even D, table (P, D/2, 2), positions (...); got x=${showShape(x.shape)} table=${showShape(table.shape)} positions=${showShape(positions.shape)}`,
      );
    }
    if (layout !== 'interleaved' && layout !== 'half') throw new OptionError(`rope: layout must be interleaved or half; got ${layout}`);
    return [x];
  },
  reference([x, table, positions], { layout, back }, [y]) {
    const [H, D] = x!.shape.slice(-2) as [number, number];
    for (let n = 0; n < positions!.data.length; n++) {
      const position = positions!.data[n]!;
      const inside = position >= 0 && position < table!.shape[0]!;
      for (let h = 0; h < H; h++) {
        for (let i = 0; i < D / 2; i++) {
          const row = (n * H + h) * D;
          const [i0, i1] = layout === 'interleaved' ? [row + 2 * i, row + 2 * i + 1] : [row + i, row + i + D / 2];
          const c = inside ? table!.data[position * D + 2 * i]! : 1;
          const s = inside ? table!.data[position * D + 2 * i + 1]! * (back ? -1 : 1) : 0;
          y!.data[i0] = x!.data[i0]! * c - x!.data[i1]! * s;
          y!.data[i1] = x!.data[i0]! * s + x!.data[i1]! * c;
        }
      }
    }
  },
  cpu(c, [x, table, positions], { layout, back }, [y]) {
    if (x!.size === 0) return;
    const [H, D] = x!.shape.slice(-2) as [number, number];
    const pairs = Number(layout === 'interleaved');
    const args = [c.at(x!), c.at(table!), c.at(positions!), c.at(y!)] as const;
    c.kernels.rope(...args, H, D, table!.shape[0]!, pairs, back ? -1 : 1, 0, positions!.size);
  },
  wgsl([x, table, positions], { layout, back }, [y], traits) {
    if (x!.size === 0) return [];
    const [H, D] = x!.shape.slice(-2) as [number, number];
    return rowRanges('rope', positions!.size, [H * D * 4, 4], traits).map(({ rows, part }) =>
      perThread(ropeKernel(layout), (rows * H * D) / 2, traits, {
        bind: [part(x!, H * D * 4), table!, part(positions!, 4), part(y!, H * D * 4)],
        params: { n: (rows * H * D) / 2, H, half: D / 2, P: table!.shape[0]!, turn: back ? -1 : 1 },
      }),
    );
  },
  constants: [1],
  saves: { inputs: [1, 2] },
  vjp: ({ inputs: [, table, positions], attrs, grads: [g] }) => [turn(g!, table!, positions!, { ...attrs, back: !attrs.back })],
  samples(g) {
    const D = 2 * g.int(1, 9);
    const table = () => g.f32([7, D / 2, 2], -1, 1);
    return (['interleaved', 'half'] as const).flatMap((layout) => [
      { inputs: [g.f32([2, 3, 4, D]), table(), g.i32([2, 3], 0, 6)], attrs: { layout, back: false }, absolute: 1e-6, relative: 1e-6 },
      { inputs: [g.f32([3, 1, D]), table(), given([-1, 6, 7], [3], 'i32')], attrs: { layout, back: true }, absolute: 1e-6, relative: 1e-6 },
      { inputs: [g.f32([0, 4, D]), table(), g.i32([0], 0, 6)], attrs: { layout, back: false } },
    ]);
  },
});

function turn(x: Tensor, table: Tensor, positions: Tensor, attrs: RopeAttrs): Tensor<'f32'> {
  return apply1(ropeOp, [x, table, positions], attrs) as Tensor<'f32'>;
}

/**
 * Rotary position embedding (Su et al. 2021) of x (..., H, D) at positions (...) i32, with cos and sin pairs from table (P, D/2, 2) (see `ropeTable`).
 * A row whose position is outside 0..P-1, such as -1 for padding, is copied as it is.
 */
export function rope(x: Tensor, table: Tensor, positions: Tensor, options: RopeOptions): Tensor<'f32'> {
  refuseUnknownOptions('rope', options, ['layout']);
  return turn(x, table, positions, { ...options, back: false });
}

/**
 * cos and sin of position * base^(-2i/D) as (P, D/2, 2), for P positions. Frequencies and angles are rounded to f32, as the models
 * were trained with: float64 angles differ by up to 2e-4 near position 4000. `rescale` changes each frequency, as models with a stretched
 * context do. Throws ShapeError for an odd D, OptionError for a bad base.
 */
export function ropeTable(positions: number, D: number, base: number, rescale: (frequency: number) => number = (f) => f): Float32Array {
  checkShape('ropeTable', [positions, D]);
  if (D % 2 !== 0) throw new ShapeError(`ropeTable: D must be even; got ${D}`);
  if (!(Number.isFinite(base) && base > 0)) throw new OptionError(`ropeTable: base must be a positive number; got ${base}`);
  const table = new Float32Array(positions * D);
  for (let i = 0; i < D / 2; i++) {
    const frequency = rescale(Math.fround(1 / Math.fround(base ** Math.fround((2 * i) / D))));
    for (let p = 0; p < positions; p++) {
      const angle = Math.fround(p * frequency);
      table[p * D + 2 * i] = Math.cos(angle);
      table[p * D + 2 * i + 1] = Math.sin(angle);
    }
  }
  return table;
}
