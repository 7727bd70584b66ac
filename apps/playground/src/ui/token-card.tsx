import { useLayoutEffect, useRef } from 'preact/hooks';
import type { LabelledToken, TokenItem, TraceResult } from '../worker/protocol.js';
import { depthColor } from './color.js';
import { percent, short } from './format.js';

const ROWS = 9;

/** Depths to show of r: the first ones all, then further and further apart, and the last. */
export function depthsToShow(recurrences: number, most: number = ROWS): number[] {
  if (recurrences <= most) return Array.from({ length: recurrences }, (_, i) => i + 1);
  const found = new Set<number>();
  for (let i = 0; i < most; i++) found.add(Math.round(recurrences ** (i / (most - 1))));
  for (let next = 1; found.size < most; next++) found.add(next);
  return [...found].sort((a, b) => a - b);
}

function Guess({ token, chosen }: { token: LabelledToken | undefined; chosen: string }) {
  if (token === undefined) return <td />;
  return (
    <td class={token.label === chosen ? 'guess chosen' : 'guess'} style={{ '--p': token.p }}>
      <b>{token.label}</b> <small>{percent(token.p)}</small>
    </td>
  );
}

/** How far a position's state moved in every recurrence. */
const changesAt = ({ change, recurrences, positions }: TraceResult, position: number): number[] =>
  Array.from({ length: recurrences }, (_, i) => change[i * positions + position]!);

/** What a rule measured at every check, on a logarithmic scale, with its threshold. */
export function ExitCurve({ values, threshold, rule }: { values: readonly number[]; threshold: number | undefined; rule: string }) {
  const known = values.map((value) => (Number.isFinite(value) && value > 0 ? value : undefined));
  const all = [...known, threshold].filter((value): value is number => value !== undefined && value > 0);
  if (all.length === 0) return null;
  const [low, high] = [Math.log(Math.min(...all) / 1.3), Math.log(Math.max(...all) * 1.3)];
  const y = (value: number) => 52 - (48 * (Math.log(value) - low)) / (high - low || 1);
  const x = (i: number) => 4 + (212 * i) / Math.max(1, values.length - 1);
  const path = known.flatMap((value, i) => (value === undefined ? [] : [`${x(i)} ${y(value)}`]));
  return (
    <figure class="exit-curve">
      <svg viewBox="0 0 220 56" role="img" aria-label={`${rule} at every check: ${values.map(short).join(', ')}`}>
        {threshold === undefined || threshold <= 0 ? null : <line x1="0" x2="220" y1={y(threshold)} y2={y(threshold)} class="threshold" />}
        <polyline points={path.join(' ')} />
        {known.map((value, i) => (value === undefined ? null : <circle key={i} cx={x(i)} cy={y(value)} r="2.4" />))}
      </svg>
      <figcaption>
        {rule} by recurrence, log scale{threshold === undefined ? '' : `; the dashed line is the threshold, ${short(threshold)}`}
      </figcaption>
    </figure>
  );
}

/** Everything about one token: what each recurrence would have said, why it stopped, what else was likely. */
export function TokenCard(props: {
  item: TokenItem;
  position: number;
  trace: TraceResult | undefined;
  threshold: number | undefined;
  onClose: () => void;
}) {
  const { item, trace, position } = props;
  const ref = useRef<HTMLDivElement>(null);
  // Opens to the side where there is room.
  useLayoutEffect(() => {
    const card = ref.current!;
    const box = card.getBoundingClientRect();
    const over = box.right - document.documentElement.clientWidth + 12;
    if (over > 0) card.style.translate = `${-over}px 0`;
  }, []);
  const rows = trace === undefined ? [] : depthsToShow(trace.recurrences);
  return (
    <div class="card token-card" ref={ref}>
      <header>
        <b class="token-big">{item.label}</b>
        <span>
          <i class="dot" style={{ background: depthColor(item.recurrences) }} /> {item.recurrences}{' '}
          {item.recurrences === 1 ? 'recurrence' : 'recurrences'}, p = {percent(Math.exp(item.logprob))}
          {item.drafted === undefined ? '' : item.drafted ? ', an accepted draft' : ', verified at full depth'}
        </span>
        <button type="button" class="icon" aria-label="Close" onClick={props.onClose}>
          ×
        </button>
      </header>
      {trace === undefined ? (
        <p class="quiet">What each recurrence would say appears when the run has been recorded.</p>
      ) : (
        <table>
          <caption>Decoded from the latent state after each recurrence</caption>
          <tbody>
            {rows.map((depth) => (
              <tr key={depth}>
                <th scope="row">
                  <i class="dot" style={{ background: depthColor(depth) }} /> {depth}
                </th>
                {Array.from({ length: 5 }, (_, k) => (
                  <Guess key={k} token={trace.top[depth - 1]?.[position]?.[k]} chosen={item.label} />
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {item.exit !== undefined ? (
        <ExitCurve values={item.exit.values} threshold={props.threshold} rule={item.exit.rule} />
      ) : trace !== undefined && trace.recurrences > 1 ? (
        <ExitCurve values={changesAt(trace, position)} threshold={undefined} rule="Relative change of the state" />
      ) : null}
      <p class="alternatives">
        <span class="quiet">Alternatives:</span>{' '}
        {item.alternatives.map(({ label, p }) => (
          <span key={label} class="alternative">
            <b>{label}</b> {percent(p)}
          </span>
        ))}
      </p>
    </div>
  );
}
