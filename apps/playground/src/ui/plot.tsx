import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

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
      stroke: style.getPropertyValue('--quiet').trim(),
      grid: { stroke: style.getPropertyValue('--line').trim(), width: 1 },
      ticks: { show: false },
      font: '12px system-ui, sans-serif',
    };
    const scale = (on: boolean) => (on ? { distr: 3 as const } : {});
    const made = new uPlot(
      {
        width: Math.max(200, host.clientWidth),
        height: props.height,
        legend: { show: false },
        cursor: { y: false },
        scales: {
          x: { time: false, ...scale(props.log === 'x' || props.log === 'both') },
          y: {
            ...scale(props.log === 'y' || props.log === 'both'),
            ...(props.range === undefined ? {} : { range: () => [...props.range!] as [number, number] }),
          },
        },
        axes: [
          { ...axis, label: props.xLabel, labelFont: '12px system-ui, sans-serif', labelSize: 18, size: 30 },
          { ...axis, size: 48 },
        ],
        series: [
          {},
          ...props.lines.map(({ label, color, dash }) => ({
            label,
            stroke: color,
            width: 2,
            spanGaps: true,
            points: { show: props.x.length < 24 },
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
    return () => {
      sizes.disconnect();
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
