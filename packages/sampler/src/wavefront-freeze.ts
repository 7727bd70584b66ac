import { add, affine, concat, div, slice, sub, type Tensor, tidy } from '@unroll/tensor';
import { rowNorms } from './exit-rules.js';

export const freezeRules = ['latent-diff', 'latent-acceleration-1', 'latent-acceleration-2', 'token-stability', 'fixed'] as const;
export type FreezeRule = (typeof freezeRules)[number];

/** States (1, W, C) of positions from `start` on. */
export interface StateWindow {
  readonly start: number;
  readonly tensor: Tensor;
}

/**
 * How far each of the W positions still moves; NaN where there is nothing to compare with. `before` and `after` are the states around
 * this round, `older` those before the last round, all compared at equal positions.
 * - latent-diff: norm(s - s') / norm(s)
 * - latent-acceleration-1: norm(d - d') / norm(s), d = s - s', where a position without an older state has d' = 0
 * - latent-acceleration-2: norm(s - 2 s' + s'') / (norm(s) + 1e-6), over positions with an older state; s'' = 0 in the first round
 */
export async function measureStates(
  rule: FreezeRule,
  before: StateWindow,
  after: StateWindow,
  older: StateWindow | undefined,
): Promise<readonly number[]> {
  if (rule === 'token-stability' || rule === 'fixed') return [];
  const [, W, C] = after.tensor.shape as [number, number, number];
  const c = after.start;
  const shared = older === undefined ? 0 : Math.min(W, older.start + older.tensor.shape[1]! - c);
  const measured = tidy(after.tensor.device, () => {
    const moved = sub(after.tensor, before.tensor);
    const norms = rowNorms(after.tensor);
    if (rule === 'latent-diff') return div(rowNorms(moved), norms);
    const oldStates = older === undefined ? undefined : slice(older.tensor, 1, c - older.start, c - older.start + shared);
    if (rule === 'latent-acceleration-2' && oldStates === undefined) {
      return div(rowNorms(add(after.tensor, affine(before.tensor, { scale: -2 }))), affine(norms, { shift: 1e-6 }));
    }
    const zeros = after.tensor.device.zeros([1, W - shared, C]);
    const movedBefore = oldStates === undefined ? zeros : sub(slice(before.tensor, 1, 0, shared), oldStates);
    const all = shared > 0 && shared < W ? concat([movedBefore, zeros], 1) : movedBefore;
    return div(rowNorms(sub(moved, all)), rule === 'latent-acceleration-1' ? norms : affine(norms, { shift: 1e-6 }));
  });
  try {
    const values = [...(await measured.data())];
    return rule === 'latent-acceleration-2' && older !== undefined ? values.map((value, i) => (i < shared ? value : Number.NaN)) : values;
  } finally {
    measured.dispose();
  }
}

/** Which of W positions is the LAST that has settled, as the published code has it (not the one before the first that has not); 0 when none has. */
export function lastSettled(W: number, settled: (i: number) => boolean): number {
  for (let i = W - 1; i > 0; i--) {
    if (settled(i)) return i;
  }
  return 0;
}
