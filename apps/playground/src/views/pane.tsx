import { solve, verdict } from '../state/answers.js';
import { focused, model, type PaneState, panes, results, setPane, shared } from '../state/app.js';
import { run, running } from '../state/runs.js';
import {
  type ExitName,
  exitChoices,
  exitThresholds,
  type PolicyName,
  policies,
  type RunSettings,
  type StrategyName,
} from '../state/settings.js';
import { depthColor } from '../ui/color.js';
import { Amount, Choice, Metric, Tick } from '../ui/controls.js';
import { Dial } from '../ui/dial.js';
import { bytes, short } from '../ui/format.js';
import { Tokens } from '../ui/tokens.js';

export const paneNames = ['A', 'B'] as const;

const STRATEGIES: readonly (readonly [StrategyName, string])[] = [
  ['plain', 'Plain: the same depth for every token'],
  ['adaptive', 'Adaptive: each token stops by itself'],
  ['speculative', 'Speculative: shallow drafts, deep checks'],
  ['wavefront', 'Wavefront: many tokens at once'],
];

const POLICY_TEXT: Readonly<Record<PolicyName, string>> = {
  auto: 'What the strategy needs',
  full: 'full: keys of every recurrence',
  latest: 'latest: the deepest keys there are',
  'always-last': 'always-last: the last recurrence’s keys',
  skip: 'skip: missing keys are skipped',
  'last-only': 'last-only: decoded tokens keep one recurrence',
  'latest-compress': 'one recurrence’s budget',
  'compress-anchor': 'anchor: the first eight recurrences',
};

export const thresholdOf = (run: RunSettings | undefined): number | undefined => (run?.strategy === 'adaptive' ? run.threshold : undefined);

function StrategyFields({ i }: { i: 0 | 1 }) {
  const pane = panes[i].value;
  const set = (change: Partial<RunSettings>) => setPane(i, change);
  if (pane.strategy === 'adaptive') {
    return (
      <>
        <Choice
          label="Exit rule"
          value={pane.exit}
          options={exitChoices(model.value?.hasExitGate === true, pane.exit).map((name) => [name, name] as const)}
          onChange={(exit: ExitName) => set({ exit, threshold: exitThresholds[exit] })}
        />
        <Amount label="Threshold" value={pane.threshold} least={0} most={1e6} step="any" onChange={(threshold) => set({ threshold })} />
      </>
    );
  }
  if (pane.strategy === 'speculative') {
    return (
      <>
        <Amount label="Draft depth" value={pane.draft} least={1} most={pane.depth} onChange={(draft) => set({ draft })} />
        <Amount label="Drafts a round" value={pane.lookahead} least={1} most={64} onChange={(lookahead) => set({ lookahead })} />
      </>
    );
  }
  if (pane.strategy === 'wavefront')
    return <Amount label="Recurrences a round" value={pane.inner} least={1} most={64} onChange={(inner) => set({ inner })} />;
  return <Tick label="Start each token where the last one ended (warm start)" value={pane.warm} onChange={(warm) => set({ warm })} />;
}

function Verdict({ state }: { state: PaneState }) {
  const asked = state.shared.prompt;
  const known = solve(asked);
  const listed = model.value?.examples.find(({ prompt }) => prompt === asked)?.answer;
  const found = state.summary === undefined ? undefined : verdict(state.summary.text, listed === undefined ? known : [listed, ...known]);
  return <span class={found === undefined ? 'verdict' : found.good ? 'verdict good' : 'verdict bad'}>{found?.text}</span>;
}

function Metrics({ state }: { state: PaneState }) {
  const { summary, tokens, status } = state;
  const last = tokens[tokens.length - 1];
  const live = last === undefined || last.at === 0 ? undefined : tokens.length / (last.at / 1000);
  const speed = summary?.tokensPerSecond ?? live;
  const mean = tokens.length === 0 ? undefined : tokens.reduce((sum, { recurrences }) => sum + recurrences, 0) / tokens.length;
  const done = summary ?? last;
  const dash = status === 'running' ? '…' : '–';
  return (
    <dl class="metrics">
      <Metric
        name="tokens/s"
        value={speed === undefined ? dash : speed.toFixed(speed < 10 ? 1 : 0)}
        title="Tokens a second of this run, the prompt included"
      />
      <Metric name="mean depth" value={mean === undefined ? dash : mean.toFixed(2)} title="Recurrences a token, mean" />
      <Metric
        name="core passes"
        value={done === undefined ? dash : String(done.corePasses)}
        title="Runs of the repeated block, the prompt’s included"
      />
      <Metric name="KV cache" value={done === undefined ? dash : bytes(done.kvBytes)} title="Keys and values that the tokens have" />
    </dl>
  );
}

function notes({ summary, status, run }: PaneState): string {
  if (status === 'waiting') return 'waiting for its turn';
  if (status === 'running') return 'thinking';
  if (status === 'stopped') return 'stopped';
  if (summary === undefined || run === undefined) return '';
  const parts = [`${summary.tokens.length} tokens in ${short(summary.milliseconds)} ms`];
  if (summary.speculation !== undefined) parts.push(`${summary.speculation.accepted} of ${summary.speculation.drafted} drafts accepted`);
  if (summary.wavefront !== undefined) parts.push(`${summary.wavefront.rounds.length} rounds`);
  return parts.join(', ');
}

export function Pane({ i }: { i: 0 | 1 }) {
  const settings = panes[i].value;
  const state = results[i].value;
  const name = `Pane ${paneNames[i]}`;
  return (
    <section
      class={focused.value === i ? 'pane focused' : 'pane'}
      aria-label={name}
      data-status={state.status}
      data-run={state.id}
      style={{ '--depth': depthColor(settings.depth) }}
    >
      <div class="pane-head">
        <Dial
          value={settings.depth}
          label={`${name}: depth`}
          onChange={(depth) => setPane(i, { depth, draft: Math.min(settings.draft, depth) })}
        />
        <div class="pane-answer">
          <div class="pane-title">
            <h2>
              {paneNames[i]} · depth {settings.depth}
            </h2>
            <button
              type="button"
              class="small"
              disabled={running.value || shared.value.prompt === '' || model.value === undefined}
              onClick={() => void run([i])}
            >
              Run {paneNames[i]}
            </button>
          </div>
          <Tokens
            name={name}
            tokens={state.tokens}
            promptLength={state.summary?.prompt.length ?? 0}
            trace={state.trace}
            {...(thresholdOf(state.run) === undefined ? {} : { threshold: thresholdOf(state.run)! })}
            running={state.status === 'running'}
          />
          <p class="pane-note" aria-live="polite">
            <Verdict state={state} /> <span class="quiet">{notes(state)}</span>
          </p>
          {state.status === 'error' ? (
            <p class="problem" role="alert">
              {state.error}
            </p>
          ) : null}
        </div>
      </div>
      <Metrics state={state} />
      <details class="more">
        <summary>
          {settings.strategy}
          {settings.strategy === 'adaptive' ? ` by ${settings.exit}` : ''}, KV {settings.policy}
        </summary>
        <div class="fields">
          <Choice label="Strategy" value={settings.strategy} options={STRATEGIES} onChange={(strategy) => setPane(i, { strategy })} />
          <StrategyFields i={i} />
          <Choice
            label="KV policy"
            value={settings.policy}
            options={policies.map((policy) => [policy, POLICY_TEXT[policy]] as const)}
            onChange={(policy) => setPane(i, { policy })}
          />
        </div>
      </details>
    </section>
  );
}
