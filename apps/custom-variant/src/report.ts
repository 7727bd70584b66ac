import type { DepthTable, ExitResult, Group } from './measure.js';

/** Columns two spaces apart, the first one left-aligned. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ');
  return rows.map((row) => `  ${line(row)}\n`).join('');
}

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

export const depthReport = (groups: readonly Group[], depths: readonly number[], { losses, solved }: DepthTable): string =>
  table([
    ['held-out problems', '', ...depths.map((depth) => `depth ${depth}`)],
    ['loss of the answers', '', ...losses.map((loss) => loss.toFixed(3))],
    ...groups.map(({ title, problems }, i) => [title, String(problems.length), ...solved[i]!.map(percent)]),
  ]);

export const exitReport = (groups: readonly Group[], thresholds: readonly number[], results: readonly (readonly ExitResult[])[]): string =>
  table([
    ['mean loops and right answers', ...thresholds.map((threshold) => `gate ${threshold}`)],
    ...groups.map(({ title }, i) => [
      title,
      ...results[i]!.map(({ loops, solved }) => `${loops.toFixed(2)} ${percent(solved).padStart(5)}`),
    ]),
  ]);
