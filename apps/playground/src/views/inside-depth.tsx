import type { PaneState } from '../state/app.js';
import { depthColor } from '../ui/color.js';
import { Empty } from '../ui/controls.js';
import { percent } from '../ui/format.js';
import { depthsToShow, ExitCurve } from '../ui/token-card.js';
import { thresholdOf } from './pane.js';

/** How many tokens took how many recurrences. */
export function histogramOf(depths: readonly number[]): { readonly depth: number; readonly count: number }[] {
  const counts = new Map<number, number>();
  for (const depth of depths) counts.set(depth, (counts.get(depth) ?? 0) + 1);
  return [...counts].map(([depth, count]) => ({ depth, count })).sort((a, b) => a.depth - b.depth);
}

function Histogram({ state }: { state: PaneState }) {
  const bars = histogramOf(state.tokens.map(({ recurrences }) => recurrences));
  const most = Math.max(...bars.map(({ count }) => count));
  const saved = state.run!.depth * state.tokens.length - state.tokens.reduce((sum, { recurrences }) => sum + recurrences, 0);
  return (
    <figure class="histogram">
      <div class="bars" role="img" aria-label={bars.map(({ depth, count }) => `${count} tokens at depth ${depth}`).join(', ')}>
        {bars.map(({ depth, count }) => (
          <div key={depth} class="column">
            <small>{count}</small>
            <div class="column-bar" style={{ height: `${(100 * count) / most}px`, background: depthColor(depth) }} />
            <small>{depth}</small>
          </div>
        ))}
      </div>
      <figcaption>
        Tokens by recurrences used
        {saved > 0
          ? `; ${saved} of ${state.run!.depth * state.tokens.length} recurrences saved (${percent(saved / (state.run!.depth * state.tokens.length))})`
          : ''}
      </figcaption>
    </figure>
  );
}

/** What the model would answer if it stopped after each recurrence: one row a depth, one column a token of the answer. */
function Evolution({ state }: { state: PaneState }) {
  const { trace, summary, tokens } = state;
  if (trace === undefined || summary === undefined) return null;
  const first = summary.prompt.length - 1;
  return (
    <div class="scroll">
      <table class="evolution">
        <caption>The most likely token behind every position, decoded after each recurrence</caption>
        <thead>
          <tr>
            <th scope="col">loop</th>
            {tokens.map(({ label }, j) => (
              <th scope="col" key={j}>
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {depthsToShow(trace.recurrences, 16).map((depth) => (
            <tr key={depth}>
              <th scope="row">
                <i class="dot" style={{ background: depthColor(depth) }} /> {depth}
              </th>
              {tokens.map(({ label }, j) => {
                const best = trace.top[depth - 1]?.[first + j]?.[0];
                return (
                  <td
                    key={j}
                    class={best?.label === label ? 'same' : 'other'}
                    style={{ '--p': best?.p ?? 0 }}
                    title={best === undefined ? '' : percent(best.p)}
                  >
                    {best?.label ?? ''}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function DepthView({ state }: { state: PaneState }) {
  if (state.tokens.length === 0 || state.run === undefined) return <Empty>Run a prompt to see how deep each token went.</Empty>;
  const curves = state.tokens.filter(({ exit }) => exit !== undefined);
  return (
    <div class="two">
      <Evolution state={state} />
      <div>
        <Histogram state={state} />
        {curves.length > 0 ? (
          <ExitCurve values={curves[0]!.exit!.values} threshold={thresholdOf(state.run)} rule={`${curves[0]!.exit!.rule}, first token,`} />
        ) : null}
      </div>
    </div>
  );
}
