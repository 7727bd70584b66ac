import { signal, useSignal } from '@preact/signals';
import { solveRest, verdict } from '../state/answers.js';
import { engine, messageOf, model, onModel, results, shared } from '../state/app.js';
import { depthColor, seriesColor } from '../ui/color.js';
import { Amount, Empty } from '../ui/controls.js';
import { percent, short } from '../ui/format.js';
import { Plot } from '../ui/plot.js';
import type { LabAction, LabState } from '../worker/protocol.js';

interface Bench {
  readonly state: LabState;
  readonly answer: string;
}

const benches = signal<readonly Bench[]>([]);
const problem = signal('');
const busy = signal(false);

onModel.push(() => {
  benches.value = [];
});

const name = (i: number): string => String.fromCharCode(65 + i);

async function attempt(f: () => Promise<void>): Promise<void> {
  busy.value = true;
  problem.value = '';
  try {
    await f();
  } catch (error) {
    problem.value = messageOf(error);
  } finally {
    busy.value = false;
  }
}

const replace = (state: LabState): void => {
  benches.value = benches.value.map((bench) => (bench.state.id === state.id ? { state, answer: '' } : bench));
};

const begin = (prompt: string) =>
  attempt(async () => {
    for (const { state } of benches.value) await engine.call('labClose', { id: state.id });
    const { seed, initScale } = shared.value;
    benches.value = [{ state: await engine.call('labOpen', { prompt, seed, initScale }), answer: '' }];
  });

const step = (id: number, count: number) => attempt(async () => replace(await engine.call('labStep', { id, count })));
const act = (id: number, action: LabAction) => attempt(async () => replace(await engine.call('labAct', { id, action })));
const fork = (id: number) =>
  attempt(async () => {
    benches.value = [...benches.value, { state: await engine.call('labFork', { id }), answer: '' }];
  });
const close = (id: number) =>
  attempt(async () => {
    await engine.call('labClose', { id });
    benches.value = benches.value.filter(({ state }) => state.id !== id);
  });
const answer = (state: LabState) =>
  attempt(async () => {
    const text = await engine.call('labAnswer', { id: state.id, recurrences: Math.max(1, state.recurrence) });
    benches.value = benches.value.map((bench) => (bench.state.id === state.id ? { ...bench, answer: text } : bench));
  });

const tell = (action: LabAction): string =>
  action.kind === 'noise'
    ? `noise ${action.amount} after loop ${action.at}`
    : `prompt swapped for “${action.prompt}” after loop ${action.at}`;

function Rows({ state }: { state: LabState }) {
  return (
    <div class="scroll lab-rows" tabIndex={0} role="group" aria-label="Recurrences so far">
      <table class="evolution">
        <caption class="unseen">The most likely next tokens after each recurrence</caption>
        <tbody>
          {state.rows.map(({ recurrence, change, top }) => (
            <tr key={recurrence} class={state.actions.some(({ at }) => at === recurrence) ? 'touched' : ''}>
              <th scope="row">
                <i class="dot" style={{ background: depthColor(recurrence) }} /> {recurrence}
              </th>
              {top.slice(0, 4).map(({ label, p }, k) => (
                <td key={k} class="guess" style={{ '--p': p }}>
                  <b>{label}</b> <small>{percent(p)}</small>
                </td>
              ))}
              <td class="quiet">Δ {short(change)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Thought({ bench, i, pauseAt }: { bench: Bench; i: number; pauseAt: number }) {
  const { state } = bench;
  const amount = useSignal(0.5);
  const other = useSignal('');
  const { id, recurrence } = state;
  const found = verdict(bench.answer, solveRest(state.prompt));
  return (
    <section class="pane thought" aria-label={`Thought ${name(i)}`} style={{ '--depth': seriesColor(i) }}>
      <div class="pane-title">
        <h2>
          Thought {name(i)} <small class="quiet">after loop {recurrence}</small>
        </h2>
        <button type="button" class="icon" aria-label={`Close thought ${name(i)}`} onClick={() => void close(id)}>
          ×
        </button>
      </div>
      <p class="buttons">
        <button type="button" disabled={busy.value} onClick={() => void step(id, 1)}>
          One loop
        </button>
        <button
          type="button"
          class="primary"
          disabled={busy.value || recurrence >= pauseAt}
          onClick={() => void step(id, pauseAt - recurrence)}
        >
          Run to loop {pauseAt}
        </button>
        <button type="button" disabled={busy.value} onClick={() => void fork(id)}>
          Fork
        </button>
        <button type="button" disabled={busy.value || recurrence === 0} onClick={() => void answer(state)}>
          Whole answer
        </button>
      </p>
      <div class="fields">
        <Amount
          label="Noise, relative to the state"
          value={amount.value}
          least={0.01}
          most={10}
          step="any"
          onChange={(value) => (amount.value = value)}
        />
        <p class="buttons">
          <button
            type="button"
            disabled={busy.value}
            onClick={() => void act(id, { kind: 'noise', at: recurrence, amount: amount.value, seed: 1 + state.actions.length })}
          >
            Add noise here
          </button>
        </p>
        <label class="field">
          <span>Another prompt of {state.labels.length} tokens</span>
          <input
            value={other.value}
            autocomplete="off"
            spellcheck={false}
            placeholder={state.prompt}
            onInput={(event) => (other.value = event.currentTarget.value)}
          />
        </label>
        <p class="buttons">
          <button
            type="button"
            disabled={busy.value || other.value === ''}
            onClick={() => void act(id, { kind: 'swap', at: recurrence, prompt: other.value })}
          >
            Swap the injected prompt
          </button>
        </p>
      </div>
      <p class="lab-answer" aria-live="polite">
        {bench.answer === '' ? (
          <span class="quiet">{state.actions.length === 0 ? 'undisturbed' : state.actions.map(tell).join('; ')}</span>
        ) : (
          <>
            <b>{bench.answer.trim()}</b> <span class={found?.good === true ? 'good' : 'bad'}>{found?.text}</span>
            <span class="quiet"> {state.actions.map(tell).join('; ')}</span>
          </>
        )}
      </p>
      {state.rows.length === 0 ? <Empty>Paused before the first loop: the state is random.</Empty> : <Rows state={state} />}
    </section>
  );
}

/**
 * The prompt of pane B with the answer's tokens up to the one that the recurrences took longest to agree on: there is most to disturb.
 * The prompt alone where nothing was recorded.
 */
function contestedPrompt(): string {
  const { trace, summary, tokens, shared: asked } = results[1].value;
  const { prompt } = asked;
  if (trace === undefined || summary === undefined || prompt !== shared.value.prompt) return shared.value.prompt;
  const first = summary.prompt.length - 1;
  const settledAfter = tokens.map(({ label }, j) => {
    let depth = trace.recurrences;
    while (depth > 0 && trace.top[depth - 1]?.[first + j]?.[0]?.label === label) depth--;
    return depth;
  });
  const latest = settledAfter.indexOf(Math.max(...settledAfter));
  return (
    prompt +
    tokens
      .slice(0, latest)
      .map(({ text }) => text)
      .join('')
  );
}

/** Pause a thought, disturb it, and see whether it finds its way back. */
export function LabView() {
  const prompt = useSignal(contestedPrompt());
  const pauseAt = useSignal(4);
  const list = benches.value;
  const longest = Math.max(0, ...list.map(({ state }) => state.recurrence));
  const x = Array.from({ length: longest }, (_, i) => i + 1);
  return (
    <div class="page wide">
      <h1>Interventions</h1>
      <p>
        Pause a thought at any loop, push its state off with noise or feed it another prompt, then let it go on. A fork is the same thought
        a second time, so that you can treat the two differently.
      </p>
      <form
        class="ask-row"
        onSubmit={(event) => {
          event.preventDefault();
          void begin(prompt.value);
        }}
      >
        <label class="unseen" for="lab-prompt">
          Prompt
        </label>
        <input
          id="lab-prompt"
          class="prompt"
          autocomplete="off"
          spellcheck={false}
          placeholder="A prompt to think about"
          value={prompt.value}
          onInput={(event) => (prompt.value = event.currentTarget.value)}
        />
        <button type="submit" class="primary" disabled={model.value?.hasTokenizer !== true || prompt.value === ''}>
          New thought
        </button>
      </form>
      <div class="fields">
        <Amount label="Pause at loop" value={pauseAt.value} least={1} most={256} onChange={(value) => (pauseAt.value = value)} />
      </div>
      {problem.value === '' ? null : (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
      {list.length === 0 ? <Empty>Type a prompt and press “New thought”.</Empty> : null}
      <div class="panes">
        {list.map((bench, i) => (
          <Thought key={bench.state.id} bench={bench} i={i} pauseAt={pauseAt.value} />
        ))}
      </div>
      {longest > 1 ? (
        <figure>
          <Plot
            label="Relative change of the last position's state by recurrence"
            height={220}
            x={x}
            xLabel="loop"
            log="y"
            lines={list.map(({ state }, i) => ({
              label: `thought ${name(i)}`,
              color: seriesColor(i),
              values: x.map((loop) => state.rows[loop - 1]?.change ?? null),
            }))}
          />
          <figcaption>How far the state of the last position moves in each loop, relative to its size, log scale.</figcaption>
        </figure>
      ) : null}
    </div>
  );
}
