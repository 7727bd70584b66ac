import { signal } from '@preact/signals';
import { engine, messageOf, model, takeModel } from '../state/app.js';
import { seriesColor } from '../ui/color.js';
import { Amount, Choice, Empty, Metric, Tick } from '../ui/controls.js';
import { percent } from '../ui/format.js';
import { Plot } from '../ui/plot.js';
import { smooth } from '../ui/smooth.js';
import type { TrainArgs, TrainItem } from '../worker/protocol.js';

const TASKS: readonly (readonly [name: string, about: string])[] = [
  ['addition', 'Addition: 48+17='],
  ['parity', 'Parity: #011010='],
  ['pointer', 'Pointer chasing: @07.74.40.…=0**'],
  ['permutation', 'Swaps of neighbours: %3142='],
  ['chain', 'Digits summed modulo 5: &3142='],
];

const args = signal<TrainArgs>({
  tasks: ['addition'],
  level: 2,
  width: 32,
  batch: 32,
  meanDepth: 4,
  rate: 0.004,
  steps: 2000,
  seed: 1,
  device: 'cpu',
});
const steps = signal<readonly (TrainItem & { kind: 'step' })[]>([]);
const marks = signal<readonly (TrainItem & { kind: 'accuracy' })[]>([]);
const state = signal<'idle' | 'running' | 'done'>('idle');
const problem = signal('');
let controller: AbortController | undefined;

const set = (change: Partial<TrainArgs>): void => {
  args.value = { ...args.value, ...change };
};

async function start(): Promise<void> {
  controller = new AbortController();
  steps.value = [];
  marks.value = [];
  problem.value = '';
  state.value = 'running';
  let arrived: TrainItem[] = [];
  let frame = 0;
  const draw = () => {
    frame = 0;
    const batch = arrived;
    arrived = [];
    steps.value = [...steps.value, ...batch.filter((item) => item.kind === 'step')];
    marks.value = [...marks.value, ...batch.filter((item) => item.kind === 'accuracy')];
  };
  try {
    await engine.call('train', args.value, {
      signal: controller.signal,
      onItem: (item) => {
        arrived.push(item);
        if (frame === 0) frame = requestAnimationFrame(draw);
      },
    });
  } catch (error) {
    if (!controller.signal.aborted) problem.value = messageOf(error);
  } finally {
    cancelAnimationFrame(frame);
    draw();
    state.value = steps.value.length > 0 ? 'done' : 'idle';
  }
}

async function save(): Promise<void> {
  try {
    const { files } = await engine.call('trainSave', undefined);
    for (const { name, blob } of files) {
      const link = document.createElement('a');
      link.href = URL.createObjectURL(blob);
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }
  } catch (error) {
    problem.value = messageOf(error);
  }
}

function Form() {
  const now = args.value;
  const off = state.value === 'running';
  const toggle = (name: string, on: boolean) => set({ tasks: on ? [...now.tasks, name] : now.tasks.filter((task) => task !== name) });
  return (
    <form
      class="train-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (off) controller?.abort();
        else void start();
      }}
    >
      <fieldset class="ticks" disabled={off}>
        <legend>Tasks</legend>
        {TASKS.map(([name, about]) => (
          <Tick key={name} label={about} value={now.tasks.includes(name)} onChange={(on) => toggle(name, on)} />
        ))}
      </fieldset>
      <div class="fields">
        <Amount label="Levels of difficulty" value={now.level} least={1} most={8} disabled={off} onChange={(level) => set({ level })} />
        <Amount label="Mean depth" value={now.meanDepth} least={1} most={16} disabled={off} onChange={(meanDepth) => set({ meanDepth })} />
        <Amount label="Width" value={now.width} least={16} most={256} step={16} disabled={off} onChange={(width) => set({ width })} />
        <Amount label="Problems a step" value={now.batch} least={1} most={256} disabled={off} onChange={(batch) => set({ batch })} />
        <Amount
          label="Learning rate"
          value={now.rate}
          least={0.00001}
          most={0.1}
          step="any"
          disabled={off}
          onChange={(rate) => set({ rate })}
        />
        <Amount label="Steps" value={now.steps} least={1} most={1000000} disabled={off} onChange={(count) => set({ steps: count })} />
        <Amount label="Seed" value={now.seed} least={0} most={1e9} disabled={off} onChange={(seed) => set({ seed })} />
        <Choice
          label="Device"
          value={now.device}
          disabled={off}
          options={[
            ['cpu', 'CPU'],
            ['webgpu', 'WebGPU'],
          ]}
          onChange={(device) => set({ device })}
        />
      </div>
      <p class="buttons">
        <button type="submit" class="primary" disabled={now.tasks.length === 0}>
          {off ? 'Stop' : 'Start training'}
        </button>
        <button type="button" disabled={state.value !== 'done'} onClick={() => void save()}>
          Save as safetensors
        </button>
        <button
          type="button"
          disabled={state.value !== 'done' || model.value === undefined}
          onClick={() => void takeModel({ kind: 'trained' })}
        >
          Use it in Think
        </button>
      </p>
    </form>
  );
}

/** A model from nothing, in this tab. */
export function TrainView() {
  const losses = smooth(steps.value.map(({ loss }) => loss));
  const last = steps.value[steps.value.length - 1];
  const mark = marks.value[marks.value.length - 1];
  return (
    <div class="page wide">
      <h1>Train a model here</h1>
      <p>
        Every step draws a depth at random, so that the model learns to use however many loops it is given. Watch accuracy rise with depth,
        even past the depths that it was trained on.
      </p>
      <Form />
      {problem.value === '' ? null : (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
      <dl class="metrics">
        <Metric name="step" value={last === undefined ? '–' : String(last.step)} />
        <Metric name="loss" value={last === undefined ? '–' : (losses.y[losses.y.length - 1] ?? 0).toFixed(3)} />
        <Metric name="tokens/s" value={last === undefined ? '–' : last.tokensPerSecond.toFixed(0)} />
        <Metric name="best accuracy" value={mark === undefined ? '–' : percent(Math.max(...mark.accuracy))} />
      </dl>
      {last === undefined ? <Empty>Loss and accuracy are drawn here while it trains.</Empty> : null}
      <div class="two">
        {losses.x.length > 1 ? (
          <figure>
            <figcaption>Loss of the training steps, log scale</figcaption>
            <Plot
              label="Training loss by step"
              height={240}
              x={losses.x}
              xLabel="step"
              log="y"
              lines={[{ label: 'loss', color: seriesColor(1), values: losses.y }]}
            />
          </figure>
        ) : null}
        {mark !== undefined ? (
          <figure>
            <figcaption>Accuracy on held-out problems by depth; trained around depth {args.value.meanDepth}</figcaption>
            <Plot
              label={`Accuracy by depth at step ${mark.step}: ${mark.depths.map((depth, i) => `${depth}: ${percent(mark.accuracy[i]!)}`).join(', ')}`}
              height={240}
              x={mark.depths}
              xLabel="depth"
              log="x"
              range={[0, 1]}
              lines={marks.value.slice(-4).map((one, i, all) => ({
                label: `step ${one.step}`,
                color: seriesColor(all.length - 1 - i),
                values: one.accuracy,
              }))}
            />
          </figure>
        ) : null}
      </div>
    </div>
  );
}
