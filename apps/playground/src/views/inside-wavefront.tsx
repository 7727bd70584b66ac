import { useCallback } from 'preact/hooks';
import { type PaneState, panes, setPane } from '../state/app.js';
import { run } from '../state/runs.js';
import { Canvas, type Paint } from '../ui/canvas.js';
import { depthColor } from '../ui/color.js';
import { Empty } from '../ui/controls.js';
import { wavefrontCells } from '../ui/wavefront-cells.js';
import { paneNames } from './pane.js';

const LEFT = 46;
const BOTTOM = 30;

function paintCells({ context, width, height, color }: Paint, cells: ReturnType<typeof wavefrontCells>, labels: readonly string[]): void {
  const columns = cells[0]?.length ?? 0;
  const cell = (width - LEFT) / columns;
  const row = (height - BOTTOM) / cells.length;
  context.font = '12px system-ui, sans-serif';
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  cells.forEach((line, k) => {
    line.forEach(({ recurrences, active }, p) => {
      if (recurrences === 0) return;
      context.globalAlpha = active ? 1 : 0.28;
      context.fillStyle = depthColor(recurrences);
      context.fillRect(LEFT + p * cell + 1, k * row + 1, cell - 2, row - 2);
      context.globalAlpha = 1;
      if (active && cell > 22 && row > 15) {
        context.fillStyle = '#0b0d12';
        context.fillText(String(recurrences), LEFT + (p + 0.5) * cell, (k + 0.5) * row);
      }
    });
    context.fillStyle = color('--quiet');
    if (row > 13 || k % Math.ceil(14 / row) === 0) context.fillText(String(k + 1), LEFT / 2, (k + 0.5) * row);
  });
  context.fillStyle = color('--text');
  context.font = '13px ui-monospace, monospace';
  labels.slice(0, columns).forEach((label, p) => context.fillText(label, LEFT + (p + 0.5) * cell, height - BOTTOM / 2));
}

/** Rounds downwards, positions to the right: the window slides as its oldest positions freeze. */
export function WavefrontView({ state, i }: { state: PaneState; i: 0 | 1 }) {
  const { summary } = state;
  const front = summary?.wavefront;
  const cells = front === undefined ? [] : wavefrontCells(front.rounds, state.run?.inner ?? 1);
  const labels = summary === undefined || front === undefined ? [] : summary.labels.slice((front.rounds[0]?.start ?? 0) + 1);
  const paint = useCallback((surface: Paint) => paintCells(surface, cells, labels), [summary]);
  if (front === undefined) {
    return (
      <Empty>
        The wavefront sampler thinks about many positions at once and freezes each when it has settled.{' '}
        <button
          type="button"
          onClick={() => {
            setPane(i, { strategy: 'wavefront', depth: Math.max(4, panes[i].value.depth) });
            void run([i]);
          }}
        >
          Run {paneNames[i]} as a wavefront
        </button>
      </Empty>
    );
  }
  return (
    <figure>
      <Canvas
        class="wavefront"
        label={`Wavefront: ${cells.length} rounds over ${cells[0]?.length ?? 0} positions; recurrences by position: ${(cells[cells.length - 1] ?? []).map(({ recurrences }) => recurrences).join(', ')}`}
        height={Math.min(560, Math.max(120, cells.length * 26)) + BOTTOM}
        paint={paint}
      />
      <figcaption>
        Rows are rounds, columns the positions behind which the tokens below stand; numbers count recurrences. Pale cells are frozen: their
        tokens are final. {summary!.corePasses} core passes in all.
      </figcaption>
    </figure>
  );
}
