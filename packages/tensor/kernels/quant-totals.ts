/** Groups of W that are widened at once: beside a panel of A they fit the first-level cache. */
export const chunk: i32 = 32;

/** Eight totals, or as many bytes of them as there are; from 0 as zeros. */
@inline
export function moveTotals(from: usize, to: usize, bytes: usize): void {
  if (!from) {
    v128.store(to, f32x4.splat(0));
    v128.store(to, f32x4.splat(0), 16);
  } else if (bytes == 32) {
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
  } else memory.copy(to, from, bytes);
}
