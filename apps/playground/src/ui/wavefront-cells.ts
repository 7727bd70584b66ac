import type { WavefrontRound } from '../worker/protocol.js';

/** Recurrences that position p has had when round k is over; 0 where it was not in the window yet. Frozen ones keep theirs. */
export function wavefrontCells(rounds: readonly WavefrontRound[], inner: number): { recurrences: number; active: boolean }[][] {
  const first = rounds[0]?.start ?? 0;
  const end = Math.max(0, ...rounds.map(({ start, width }) => start + width));
  const counts = new Array<number>(end - first).fill(0);
  return rounds.map(({ start, width }) =>
    counts.map((_, p) => {
      const active = p + first >= start && p + first < start + width;
      if (active) counts[p]! += inner;
      return { recurrences: counts[p]!, active };
    }),
  );
}
