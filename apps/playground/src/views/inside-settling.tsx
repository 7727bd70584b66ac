import { useSignal } from '@preact/signals';
import { useCallback } from 'preact/hooks';
import { model, type PaneState } from '../state/app.js';
import { traceCost, tracePane } from '../state/runs.js';
import { Canvas, type Paint } from '../ui/canvas.js';
import { heatColor } from '../ui/color.js';
import { Empty } from '../ui/controls.js';
import { count, short } from '../ui/format.js';
import { heatPlace, heatRange } from '../ui/heat.js';
import type { TraceResult } from '../worker/protocol.js';

const LEFT = 46;
const TOP = 4;
const BOTTOM = 34;

function paintHeat({ context, width, height, color }: Paint, trace: TraceResult, labels: readonly string[]): void {
  const { change, recurrences: r, positions: T } = trace;
  const range = heatRange(change);
  const cell = (width - LEFT) / T;
  const row = (height - TOP - BOTTOM) / r;
  for (let i = 0; i < r; i++) {
    for (let t = 0; t < T; t++) {
      context.fillStyle = `rgb(${heatColor(heatPlace(change[i * T + t]!, range)).join(' ')})`;
      context.fillRect(LEFT + t * cell, TOP + i * row, Math.ceil(cell), Math.ceil(row));
    }
  }
  context.fillStyle = color('--quiet');
  context.font = '12px system-ui, sans-serif';
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  const every = Math.max(1, Math.ceil(18 / row));
  for (let i = 0; i < r; i += every) context.fillText(String(i + 1), LEFT - 8, TOP + (i + 0.5) * row);
  context.textAlign = 'center';
  context.textBaseline = 'top';
  context.font = '13px ui-monospace, monospace';
  const skip = Math.max(1, Math.ceil(14 / cell));
  context.fillStyle = color('--text');
  for (let t = 0; t < T; t += skip) context.fillText(labels[t] ?? '', LEFT + (t + 0.5) * cell, height - BOTTOM + 6);
}

function Legend({ range }: { range: readonly [number, number] }) {
  const stops = Array.from({ length: 9 }, (_, i) => `rgb(${heatColor(i / 8).join(' ')})`).join(', ');
  return (
    <div class="heat-legend">
      <span>{short(range[0])} settled</span>
      <i style={{ background: `linear-gradient(90deg, ${stops})` }} />
      <span>{short(range[1])} moving</span>
    </div>
  );
}

/** Position by recurrence: how far each state still moves. */
export function SettlingView({ state, i }: { state: PaneState; i: 0 | 1 }) {
  const { trace, summary } = state;
  const pointed = useSignal('');
  const labels = summary?.labels ?? [];
  const paint = useCallback((surface: Paint) => trace !== undefined && paintHeat(surface, trace, labels), [trace, labels]);
  if (summary === undefined || state.run === undefined) return <Empty>Run a prompt to see its positions settle.</Empty>;
  if (trace === undefined) {
    const info = model.value;
    return (
      <Empty>
        Recording costs about {info === undefined ? '?' : count(2 * traceCost(info, labels.length, state.run.depth))} floating-point
        operations here.{' '}
        <button type="button" onClick={() => void tracePane(i)}>
          Record every recurrence
        </button>
      </Empty>
    );
  }
  const { recurrences: r, positions: T, change } = trace;
  const height = Math.min(560, Math.max(150, r * 22)) + TOP + BOTTOM;
  const point = (x: number, y: number, width: number) => {
    const t = Math.floor(((x - LEFT) / (width - LEFT)) * T);
    const k = Math.floor(((y - TOP) / (height - TOP - BOTTOM)) * r);
    pointed.value =
      t < 0 || t >= T || k < 0 || k >= r
        ? ''
        : `“${labels[t]}” (position ${t}), recurrence ${k + 1}: the state moved by ${short(change[k * T + t]!)} of its size`;
  };
  const mean = (k: number) => Array.from({ length: T }, (_, t) => change[k * T + t]!).reduce((sum, x) => sum + x, 0) / T;
  return (
    <figure>
      <Canvas
        class="heat"
        label={`Relative change of the latent state by position and recurrence: mean ${short(mean(0))} after the first recurrence, ${short(mean(r - 1))} after the last of ${r}`}
        height={height}
        paint={paint}
        onPoint={point}
        onLeave={() => (pointed.value = '')}
      />
      <figcaption>
        <Legend range={heatRange(change)} />
        <span class="pointed">
          {pointed.value === ''
            ? 'Rows are recurrences, columns positions; the colour is |sᵢ − sᵢ₋₁| / |sᵢ| on a log scale.'
            : pointed.value}
        </span>
      </figcaption>
    </figure>
  );
}
