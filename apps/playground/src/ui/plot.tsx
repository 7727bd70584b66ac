import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { logMarks } from './log-marks.js';
import { onTheme } from './on-theme.js';

export interface Line {
  readonly label: string;
  readonly color: string;
  readonly values: readonly (number | null)[];
  readonly dash?: readonly number[];
}

/** Lines over numbers, drawn by uPlot. */
export function Plot(props: {
  label: string;
  x: readonly number[];
  lines: readonly Line[];
  height: number;
  xLabel: string;
  log?: 'x' | 'y' | 'both';
  range?: readonly [number, number];
}) {
  const ref = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const shape = `${props.lines.map(({ label, color }) => label + color).join()} ${props.log} ${props.height}`;
  const data = [props.x, ...props.lines.map(({ values }) => values)] as unknown as uPlot.AlignedData;
  // The plot is made anew for another shape alone; data goes in below.
  useEffect(() => {
    const host = ref.current!;
    const style = getComputedStyle(host);
    const axis = {
      stroke: () => style.getPropertyValue('--quiet'),
      grid: { show: false },
      ticks: { show: false },
      font: '12px system-ui, sans-serif',
    };
    const [logX, logY] = [props.log === 'x' || props.log === 'both', props.log === 'y' || props.log === 'both'];
    const faint = { stroke: () => `color-mix(in srgb, ${style.getPropertyValue('--line')} 60%, transparent)`, width: 1 };
    const made = new uPlot(
      {
        width: Math.max(200, host.clientWidth),
        height: props.height,
        legend: { show: false },
        cursor: { y: false },
        scales: {
          // Depths double from mark to mark.
          x: {
            time: false,
            ...(logX
              ? { distr: 3 as const, log: 2 as const, range: (_: uPlot, low: number, high: number) => [low, high] as [number, number] }
              : {}),
          },
          y: {
            ...(logY ? { distr: 3 as const } : {}),
            ...(props.range === undefined ? {} : { range: () => [...props.range!] as [number, number] }),
          },
        },
        axes: [
          {
            ...axis,
            label: props.xLabel,
            labelFont: '12px system-ui, sans-serif',
            labelSize: 18,
            size: 30,
            ...(logX ? { splits: () => [...props.x] } : { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 1e5] }),
          },
          {
            ...axis,
            grid: faint,
            size: 54,
            values: (_: uPlot, marks: (number | null)[]) => marks.map((mark) => (mark === null ? '' : String(Number(mark.toPrecision(6))))),
            ...(logY ? { splits: (_: uPlot, __: number, low: number, high: number) => logMarks(low, high) } : {}),
          },
        ],
        series: [
          {},
          ...props.lines.map(({ label, color, dash }) => ({
            label,
            stroke: color,
            width: 2,
            spanGaps: true,
            points: { show: (made: uPlot) => made.data[0].length < 24 },
            ...(dash === undefined ? {} : { dash: [...dash] }),
          })),
        ],
      },
      data,
      host,
    );
    plot.current = made;
    const sizes = new ResizeObserver(() => made.setSize({ width: Math.max(200, host.clientWidth), height: props.height }));
    sizes.observe(host);
    const endTheme = onTheme(() => made.redraw());
    return () => {
      sizes.disconnect();
      endTheme();
      made.destroy();
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data));
  return (
    <div>
      <div ref={ref} class="plot" role="img" aria-label={props.label} style={{ minHeight: `${props.height}px` }} />
      {props.lines.length > 1 ? (
        <ul class="legend">
          {props.lines.map(({ label, color }) => (
            <li key={label}>
              <i style={{ background: color }} />
              {label}
            </li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}
