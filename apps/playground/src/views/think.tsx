import { explain } from '../state/answers.js';
import { focused, inside, loading, model, setShared, shared } from '../state/app.js';
import { finished, run, running, stop, survey } from '../state/runs.js';
import { type InsideName, sharedDefaults } from '../state/settings.js';
import { depthColor } from '../ui/color.js';
import { Amount, Segments } from '../ui/controls.js';
import type { ModelInfo } from '../worker/protocol.js';
import { DepthView } from './inside-depth.js';
import { MemoryView } from './inside-memory.js';
import { PathsView } from './inside-paths.js';
import { SettlingView } from './inside-settling.js';
import { WavefrontView } from './inside-wavefront.js';
import { Pane } from './pane.js';

const PER_TASK = 4;

/** Examples of every kind, from easy to hard as far as the survey knows. */
function pickExamples({ examples }: ModelInfo, needed: readonly number[]): { prompt: string; task: string; needs: number }[] {
  const tasks = [...new Set(examples.map(({ task }) => task))];
  const each = tasks.length > 1 ? PER_TASK - 1 : 2 * PER_TASK;
  return tasks.flatMap((task) => {
    const known = examples
      .map(({ prompt, task: kind }, i) => ({ prompt, task: kind, needs: needed[i] ?? 0 }))
      .filter((example) => example.task === task && (needed.length === 0 || example.needs > 0))
      .sort((a, b) => a.needs - b.needs);
    const picked = Array.from(
      { length: Math.min(each, known.length) },
      (_, i) => known[Math.round((i * (known.length - 1)) / Math.max(1, Math.min(each, known.length) - 1))]!,
    );
    return [...new Map(picked.map((example) => [example.prompt, example])).values()];
  });
}

const shorten = (prompt: string): string => (prompt.length > 26 ? `${prompt.slice(0, 23)}…` : prompt);

function Examples() {
  const info = model.value;
  if (info === undefined || info.examples.length === 0) return <div class="chips" />;
  return (
    <div class="chips" role="group" aria-label="Examples">
      {pickExamples(info, survey.value).map(({ prompt, task, needs }) => (
        <button
          key={prompt}
          type="button"
          class="chip"
          title={`${task}: ${prompt}${needs > 0 ? `, right from depth ${needs} on` : ''}`}
          aria-pressed={shared.value.prompt === prompt}
          onClick={() => {
            setShared({ prompt });
            void run();
          }}
        >
          <code>{shorten(prompt)}</code>
          {needs > 0 ? (
            <small class="needs" style={{ '--depth': depthColor(needs) }}>
              needs {needs}
            </small>
          ) : null}
        </button>
      ))}
    </div>
  );
}

function Sampling() {
  const s = shared.value;
  const changed = (['temperature', 'topK', 'topP', 'minP', 'initScale', 'seed'] as const).filter(
    (name) => s[name] !== sharedDefaults[name],
  );
  return (
    <details class="more">
      <summary>
        {s.temperature === 0 ? 'Greedy' : `Temperature ${s.temperature}`}, seed {s.seed}
        {changed.length > 0 ? ` · ${changed.length} changed` : ''}
      </summary>
      <div class="fields">
        <Amount
          label="Temperature"
          value={s.temperature}
          least={0}
          most={10}
          step="any"
          hint="0 takes the most likely token"
          onChange={(temperature) => setShared({ temperature })}
        />
        <Amount label="Top-k" value={s.topK} least={0} most={100000} hint="0: off" onChange={(topK) => setShared({ topK })} />
        <Amount label="Top-p" value={s.topP} least={0.001} most={1} step="any" hint="1: off" onChange={(topP) => setShared({ topP })} />
        <Amount label="Min-p" value={s.minP} least={0} most={1} step="any" hint="0: off" onChange={(minP) => setShared({ minP })} />
        <Amount
          label="Most new tokens"
          value={s.maxNewTokens}
          least={0}
          most={65536}
          hint="0: what the model says"
          onChange={(maxNewTokens) => setShared({ maxNewTokens })}
        />
        <Amount
          label="Seed"
          value={s.seed}
          least={0}
          most={Number.MAX_SAFE_INTEGER}
          hint="Keys the initial state and the noise"
          onChange={(seed) => setShared({ seed })}
        />
        <Amount
          label="Initial state"
          value={s.initScale}
          least={0}
          most={100}
          step="any"
          hint="Its scale; 0 starts from zeros"
          onChange={(initScale) => setShared({ initScale })}
        />
      </div>
    </details>
  );
}

function hint(): string {
  if (loading.value !== undefined) return 'Loading the model …';
  if (model.value === undefined) return 'No model is loaded';
  return model.value.hasTokenizer ? 'Ask something' : 'This model came without tokenizer.json, so it cannot read a text';
}

function Ask() {
  const { prompt } = shared.value;
  const ready = model.value?.hasTokenizer === true;
  return (
    <form
      class="ask"
      onSubmit={(event) => {
        event.preventDefault();
        if (running.value) stop();
        else void run();
      }}
    >
      <label class="unseen" for="prompt">
        Prompt
      </label>
      <div class="ask-row">
        <input
          id="prompt"
          class="prompt"
          value={prompt}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          placeholder={hint()}
          onInput={(event) => setShared({ prompt: event.currentTarget.value })}
        />
        <button type="submit" class="primary" disabled={!ready || prompt === ''}>
          {running.value ? 'Stop' : 'Run'}
        </button>
      </div>
      <p class="explain">{explain(prompt) ?? ' '}</p>
      <Examples />
      <Sampling />
    </form>
  );
}

const INSIDES: readonly (readonly [InsideName, string])[] = [
  ['depth', 'Depth'],
  ['settling', 'Settling'],
  ['paths', 'Trajectories'],
  ['wavefront', 'Wavefront'],
  ['memory', 'Memory'],
];

function Inside() {
  const which = inside.value;
  const i = focused.value;
  const state = finished[i].value;
  return (
    <section class="inside" aria-label="Inside the answer">
      <div class="inside-head">
        <h2>Inside the answer</h2>
        <Segments label="Which answer" value={i} options={[[0, 'A'] as const, [1, 'B'] as const]} onChange={(to) => (focused.value = to)} />
        <Segments label="What to look at" value={which} options={INSIDES} onChange={(to) => (inside.value = to)} />
      </div>
      <div class="inside-body">
        {which === 'depth' ? <DepthView state={state} /> : null}
        {which === 'settling' ? <SettlingView state={state} i={i} /> : null}
        {which === 'paths' ? <PathsView state={state} /> : null}
        {which === 'wavefront' ? <WavefrontView state={state} i={i} /> : null}
        {which === 'memory' ? <MemoryView state={state} /> : null}
      </div>
    </section>
  );
}

export function ThinkView() {
  return (
    <>
      <div class="hero">
        <h1>
          One model. <em>Any depth.</em>
        </h1>
        <p>
          This model thinks before every token by running the same block of layers again and again. Turn a dial: more loops, more thought,
          the same weights.
        </p>
      </div>
      <Ask />
      <div class="panes">
        <Pane i={0} />
        <Pane i={1} />
      </div>
      <Inside />
    </>
  );
}
