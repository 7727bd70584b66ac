/** A line of a run's log, as far as the report shows it. */
export interface LogLine {
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly tasks?: Readonly<Record<string, number>>;
  readonly levels?: Readonly<Record<string, number>>;
  readonly validation?: Readonly<Record<string, number>>;
  readonly states?: Readonly<Record<string, number>>;
}

interface Series {
  readonly name: string;
  readonly points: readonly (readonly [step: number, value: number])[];
}

const WIDTH = 520;
const HEIGHT = 220;
const EDGE = { left: 58, right: 12, top: 12, bottom: 26 };
/** Points of a curve; more cannot be told apart at this width. */
const MOST_POINTS = 260;
const COLOURS = ['#2563eb', '#dc2626', '#059669', '#d97706', '#7c3aed', '#0891b2', '#be185d', '#4d7c0f'];

const escaped = (text: string) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const short = (x: number) => (Math.abs(x) >= 1000 ? x.toFixed(0) : String(Number(x.toPrecision(3))));

/** Means of neighbouring points, so that at most MOST_POINTS are left. */
function thinned({ name, points }: Series): Series {
  const each = Math.ceil(points.length / MOST_POINTS);
  const parts = Array.from({ length: Math.ceil(points.length / each) }, (_, i) => points.slice(i * each, (i + 1) * each));
  return { name, points: parts.map((part) => [part[part.length - 1]![0], part.reduce((sum, [, y]) => sum + y, 0) / part.length]) };
}

function plot(title: string, all: readonly Series[], lastStep: number): string {
  const series = all.filter(({ points }) => points.length > 0).map(thinned);
  if (series.length === 0) return '';
  const values = series.flatMap(({ points }) => points.map(([, y]) => y));
  const [low, high] = [Math.min(0, ...values), Math.max(...values)];
  const x = (step: number) => EDGE.left + ((WIDTH - EDGE.left - EDGE.right) * step) / lastStep;
  const y = (value: number) => HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * (value - low)) / (high - low || 1);
  const curves = series.map(({ name, points }, i) => {
    const path = points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
    return `<polyline fill="none" stroke="${COLOURS[i % COLOURS.length]}" stroke-width="1.5" points="${path}"><title>${escaped(name)}</title></polyline>`;
  });
  const ticks = [low, (low + high) / 2, high].map(
    (value) =>
      `<line x1="${EDGE.left}" x2="${WIDTH - EDGE.right}" y1="${y(value)}" y2="${y(value)}" stroke="#8884"/><text x="${EDGE.left - 6}" y="${y(value) + 4}" text-anchor="end">${short(value)}</text>`,
  );
  const steps = `<text x="${EDGE.left}" y="${HEIGHT - 6}">0</text><text x="${WIDTH - EDGE.right}" y="${HEIGHT - 6}" text-anchor="end">step ${lastStep}</text>`;
  const legend = series.map(({ name, points }, i) => {
    const last = short(points[points.length - 1]![1]);
    return `<span style="color:${COLOURS[i % COLOURS.length]}">${escaped(name)} ${last}</span>`;
  });
  return `<figure><figcaption>${escaped(title)}</figcaption><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}">${[...ticks, steps, ...curves].join('')}</svg><p>${legend.join(' · ')}</p></figure>`;
}

/** A run's log as one HTML page with its plots in it: no script, nothing to load. */
export function reportOf(lines: readonly LogLine[], title: string): string {
  const lastStep = Math.max(1, ...lines.map(({ step }) => step));
  const one = (name: string, pick: (line: LogLine) => number): Series[] => [{ name, points: lines.map((line) => [line.step, pick(line)]) }];
  const many = (pick: (line: LogLine) => Readonly<Record<string, number>> | undefined, label = ''): Series[] => {
    const names = [...new Set(lines.flatMap((line) => Object.keys(pick(line) ?? {})))];
    return names.map((name) => ({
      name: `${label}${name}`,
      points: lines.flatMap((line) => {
        const value = pick(line)?.[name];
        return value === undefined ? [] : [[line.step, value] as const];
      }),
    }));
  };
  const only = (name: string) =>
    many((line) => {
      const value = line.states?.[name];
      return value === undefined ? undefined : { [name]: value };
    });
  const plots = [
    plot(
      'Training loss, nats per token',
      one('loss', ({ loss }) => loss),
      lastStep,
    ),
    plot(
      'Held-out loss by depth',
      many(({ validation }) => validation, 'depth '),
      lastStep,
    ),
    plot(
      '-log p(answer) by task',
      many(({ tasks }) => tasks),
      lastStep,
    ),
    plot(
      'Highest level by task',
      many(({ levels }) => levels),
      lastStep,
    ),
    plot('Correlation of token states (towards 1: collapse)', only('correlation'), lastStep),
    plot('Relative change of the state in the last recurrence', only('change'), lastStep),
    plot('Norm of the state', only('norm'), lastStep),
    plot(
      'Gradient norm before clipping',
      one('gradient norm', ({ gradNorm }) => gradNorm),
      lastStep,
    ),
    plot(
      'Learning rate',
      one('learning rate', ({ learningRate }) => learningRate),
      lastStep,
    ),
    plot(
      'Tokens per second',
      one('tokens/s', ({ tokensPerSecond }) => tokensPerSecond),
      lastStep,
    ),
  ];
  const tokens = lines.reduce((sum, line) => sum + line.tokens, 0);
  const style =
    'body{font:15px system-ui;margin:2rem auto;max-width:1120px;padding:0 1rem;color-scheme:light dark}main{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:1.5rem}figure{margin:0}figcaption{font-weight:600}svg{width:100%}svg text{font-size:11px;fill:currentColor}p{margin:.2rem 0;font-size:13px}';
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title><style>${style}</style><h1>${escaped(title)}</h1><p>${lastStep} steps, ${tokens.toLocaleString('en')} tokens. Curves are means of neighbouring steps.</p><main>${plots.join('')}</main></html>\n`;
}
