import type { Operand } from '../webgpu/kernel.js';

/**
 * What a product of few rows by a matrix b (N, K) does beside the sums over k: where its left rows come from, and what becomes of a sum.
 * - `plain`: rows of a;
 * - `pair`: rows of a, then rows of a2, along k;
 * - `norm`: rmsNorm(a, w);
 * - `addNorm`: rmsNorm(z, w) with z = rmsNorm(a + a2, w0), which is written too.
 */
export type LeftSide = 'plain' | 'pair' | 'norm' | 'addNorm';

/** The arrays of each left side, in their order. */
export const reads: Record<LeftSide, readonly string[]> = {
  plain: ['a'],
  pair: ['a', 'a2'],
  norm: ['a', 'w'],
  addNorm: ['a', 'a2', 'w0', 'w'],
};

export const each = (count: number, f: (i: number) => string) => Array.from({ length: count }, (_, i) => f(i)).join('\n  ');

/** Names the value `x` of a row of the left side at vector k, and gathers what its norms need on the way. */
export function leftValue(left: LeftSide, r: number): string {
  const at = `m${r} * K4 + k`;
  switch (left) {
    case 'plain':
      return `let x = a[startA + ${at}];`;
    case 'pair':
      return `var x: vec4f;
      if (k < K14) { x = a[m${r} * K14 + k]; } else { x = a2[m${r} * (K4 - K14) + k - K14]; }`;
    case 'norm':
      return `let v = a[${at}];
      square${r}.x += dot(v, v);
      let x = v * wk;`;
    case 'addNorm':
      return `let v = a[${at}] + a2[${at}];
      let scaled = v * w0[k];
      square${r} += vec4f(dot(v, v), dot(scaled, scaled), 0.0, 0.0);
      let x = scaled * wk;`;
  }
}

/** The factor that the norms of a row leave to its sums, which are over values without it: rmsNorm(x) . b = (x * w) . b / rms(x). */
export const scales: Partial<Record<LeftSide, string>> = {
  norm: 'let scale = inverseSqrt(square.x / f32(p.K) + p.eps);',
  addNorm: `let inner = inverseSqrt(square.x / f32(p.K) + p.eps);
    let scale = inner * inverseSqrt(inner * inner * square.y / f32(p.K) + p.eps);`,
};

/** The least of 1, 2, 4, 8 that holds M rows, or 8. */
export const rowsFor = (M: number): number => (M >= 5 ? 8 : M >= 3 ? 4 : M);

/** A product of few rows whose left side or end is more than a copy. */
export interface FusedDot {
  readonly left: LeftSide;
  /** b has 2 N rows: those of silu's argument, then those of its factor. */
  readonly gated?: boolean;
  /** The operands that `left` names, in its order. */
  readonly inputs: readonly Operand[];
  readonly b: Operand;
  readonly c: Operand;
  readonly z?: Operand;
  readonly M: number;
  /** Columns of c. */
  readonly N: number;
  readonly K: number;
  /** Width of a, where a2 goes on. */
  readonly K1?: number;
  readonly eps?: number;
}
