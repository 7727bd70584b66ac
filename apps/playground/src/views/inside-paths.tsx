import { useSignal } from '@preact/signals';
import { useCallback, useEffect } from 'preact/hooks';
import { engine, messageOf, type PaneState, shared } from '../state/app.js';
import { Canvas, type Paint } from '../ui/canvas.js';
import { seriesColor } from '../ui/color.js';
import { Amount, Empty } from '../ui/controls.js';
import { percent, short } from '../ui/format.js';
import type { TrajectoryResult } from '../worker/protocol.js';

const MARGIN = 26;
const MOST_PATHS = 8;

/** Draws every path in one frame: same scale on both axes, so that shapes are true. */
function paintPaths(
  { context, width, height, color }: Paint,
  { paths }: TrajectoryResult,
  positions: readonly number[],
  seeds: readonly number[],
): void {
  const all = paths.flatMap(({ points }) => [...points]);
  const xs = all.filter((_, i) => i % 2 === 0);
  const ys = all.filter((_, i) => i % 2 === 1);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min((width - 2 * MARGIN) / (x1 - x0 || 1), (height - 2 * MARGIN) / (y1 - y0 || 1));
  const px = (x: number) => width / 2 + (x - (x0 + x1) / 2) * scale;
  const py = (y: number) => height / 2 - (y - (y0 + y1) / 2) * scale;
  context.strokeStyle = color('--line');
  context.lineWidth = 1;
  context.strokeRect(0.5, 0.5, width - 1, height - 1);
  for (const { points, position, seed } of paths) {
    const count = points.length / 2;
    context.strokeStyle = seriesColor(positions.indexOf(position));
    context.fillStyle = context.strokeStyle;
    context.setLineDash(seeds.indexOf(seed) === 0 ? [] : [5, 3 + 2 * seeds.indexOf(seed)]);
    context.lineWidth = 2;
    // Later recurrences are drawn stronger.
    for (let i = 1; i < count; i++) {
      context.globalAlpha = 0.35 + (0.65 * i) / count;
      context.beginPath();
      context.moveTo(px(points[2 * i - 2]!), py(points[2 * i - 1]!));
      context.lineTo(px(points[2 * i]!), py(points[2 * i + 1]!));
      context.stroke();
    }
    context.setLineDash([]);
    for (let i = 0; i < count; i++) {
      context.globalAlpha = i === 0 ? 1 : 0.8;
      context.beginPath();
      context.arc(px(points[2 * i]!), py(points[2 * i + 1]!), i === count - 1 ? 6 : i === 0 ? 4 : 2.2, 0, 2 * Math.PI);
      if (i === 0) context.stroke();
      else context.fill();
    }
  }
  context.globalAlpha = 1;
}

/** The positions whose next token is part of the answer. */
const answerPositions = (state: PaneState): number[] => state.tokens.map((_, j) => state.summary!.prompt.length - 1 + j);

export function PathsView({ state }: { state: PaneState }) {
  const { summary, run } = state;
  const starts = useSignal(3);
  const chosen = useSignal<readonly number[] | undefined>(undefined);
  const result = useSignal<TrajectoryResult | undefined>(undefined);
  const problem = useSignal('');
  const depth = Math.max(run?.depth ?? 1, 8);
  const positions =
    summary === undefined ? [] : (chosen.value ?? answerPositions(state)).filter((p) => p < summary.labels.length - 1).slice(0, MOST_PATHS);
  const { seed, initScale } = shared.value;
  const seeds = Array.from({ length: starts.value }, (_, i) => seed + i);
  const key = summary === undefined ? '' : JSON.stringify([summary.prompt, summary.tokens, positions, seeds, depth, initScale]);
  useEffect(() => {
    chosen.value = undefined;
  }, [summary]);
  useEffect(() => {
    if (summary === undefined || positions.length === 0) return;
    const controller = new AbortController();
    const tokens = [...summary.prompt, ...summary.tokens].slice(0, -1);
    engine
      .call(
        'trajectories',
        { tokens, recurrences: depth, seed, initScale: initScale === 0 ? 1 : initScale, positions, seeds },
        { signal: controller.signal },
      )
      .then(
        (found) => {
          result.value = found;
          problem.value = '';
        },
        (error: unknown) => {
          if (!controller.signal.aborted) problem.value = messageOf(error);
        },
      );
    return () => controller.abort();
  }, [key]);
  const found = result.value;
  const paint = useCallback((surface: Paint) => found !== undefined && paintPaths(surface, found, positions, seeds), [found]);
  if (summary === undefined) return <Empty>Run a prompt to see its tokens move through latent space.</Empty>;
  const toggle = (position: number) => {
    const next = positions.includes(position) ? positions.filter((p) => p !== position) : [...positions, position];
    chosen.value = next.slice(-MOST_PATHS);
  };
  const kinds = (position: number) => [
    ...new Set((found?.paths ?? []).filter((path) => path.position === position).map(({ kind }) => kind)),
  ];
  return (
    <div class="paths">
      <figure>
        <Canvas
          class="trajectories"
          label={`Paths of ${positions.length} positions from ${seeds.length} initial states through the two principal axes of the latent space`}
          height={420}
          paint={paint}
        />
        <figcaption>
          {found === undefined
            ? 'Recording …'
            : `${depth} recurrences in one shared plane that shows ${percent(found.explained[0] + found.explained[1])} of the variance. Open circles are random initial states, large dots the last recurrence.`}
        </figcaption>
      </figure>
      <div class="paths-side">
        <div class="position-picker" role="group" aria-label="Positions">
          {summary.labels.slice(0, -1).map((label, position) => (
            <button
              key={position}
              type="button"
              aria-pressed={positions.includes(position)}
              aria-label={`position ${position}, ${label}`}
              style={positions.includes(position) ? { '--series': seriesColor(positions.indexOf(position)) } : undefined}
              onClick={() => toggle(position)}
            >
              {label}
            </button>
          ))}
        </div>
        <Amount label="Initial states" value={starts.value} least={1} most={8} onChange={(value) => (starts.value = value)} />
        <table class="plain">
          <caption class="unseen">How each position moves</caption>
          <thead>
            <tr>
              <th scope="col">at</th>
              <th scope="col">motion</th>
              <th scope="col" title="Largest distance between the ends of the paths from different initial states, relative to their size">
                spread
              </th>
            </tr>
          </thead>
          <tbody>
            {positions.map((position, i) => (
              <tr key={position}>
                <th scope="row">
                  <i class="dot" style={{ background: seriesColor(i) }} /> {summary.labels[position]}
                </th>
                <td>{kinds(position).join(', ')}</td>
                <td>{short(found?.spread.find((one) => one.position === position)?.value ?? 0)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <p class="quiet">A small spread means path independence: wherever the thought starts, it ends in the same place.</p>
        {problem.value === '' ? null : (
          <p class="problem" role="alert">
            {problem.value}
          </p>
        )}
      </div>
    </div>
  );
}
