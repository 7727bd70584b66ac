import { batch, effect, type Signal, signal, untracked } from '@preact/signals';
import { EngineError } from '../worker/client.js';
import type { ModelInfo, TokenItem } from '../worker/protocol.js';
import {
  device,
  emptyPane,
  engine,
  isInUse,
  messageOf,
  model,
  onModel,
  onOpening,
  type PaneState,
  panes,
  refreshMemory,
  report,
  results,
  setShared,
  shared,
  show,
} from './app.js';
import { runDefaults } from './settings.js';

/** What each pane last finished: the views below the panes keep it while the next answer is under way. */
export const finished: readonly [Signal<PaneState>, Signal<PaneState>] = [signal(emptyPane), signal(emptyPane)];

/** The depth from which each example is answered right, in the order of the examples; 0 where it never is. */
export const survey = signal<readonly number[]>([]);

let controller: AbortController | undefined;
let begun = 0;
/** Whether a run is under way. */
export const running = signal(false);

export const stop = (): void => controller?.abort();

/** Panes whose dial was turned, and which will run when it rests. */
const turned: [ReturnType<typeof setTimeout> | undefined, ReturnType<typeof setTimeout> | undefined] = [undefined, undefined];

/** Multiply-adds of a trace beyond which it is made only when asked for. */
const CHEAP_TRACE = 4e9;

export const traceCost = (info: ModelInfo, tokens: number, recurrences: number): number => info.coreParameters * tokens * recurrences;

async function runPane(i: 0 | 1, id: number, signal: AbortSignal): Promise<void> {
  const pane = results[i];
  const isShown = () => pane.value.id === id;
  const change = (part: Partial<PaneState>) => {
    if (isShown()) pane.value = { ...pane.value, ...part };
  };
  const run = panes[i].value;
  const now = shared.value;
  // Tokens come faster than the screen is drawn: they are shown together, once a frame.
  let tokens: TokenItem[] = [];
  let frame = 0;
  const draw = () => {
    frame = 0;
    change({ tokens });
  };
  pane.value = { ...emptyPane, id, status: 'running', shared: now, run };
  try {
    const summary = await engine.call(
      'generate',
      { shared: now, run },
      {
        signal,
        onItem: (token) => {
          tokens = [...tokens, token];
          if (frame === 0) frame = requestAnimationFrame(draw);
        },
      },
    );
    cancelAnimationFrame(frame);
    change({ status: 'done', tokens, summary });
    if (summary.recovered > 0)
      show({
        key: 'recovered',
        level: 'note',
        text: 'The GPU was lost and came back: the model was loaded again and the answer went on.',
        actions: [],
      });
    const info = model.value;
    if (isShown() && info !== undefined && traceCost(info, summary.labels.length, run.depth) <= CHEAP_TRACE) await tracePane(i, signal);
  } catch (error) {
    cancelAnimationFrame(frame);
    const kind = error instanceof EngineError ? error.kind : 'other';
    if (kind !== 'aborted') {
      change({ status: 'error', tokens, error: messageOf(error) });
      if (kind === 'lost' || kind === 'memory') report(error, 'Generating');
    } else if (pane.value.summary === undefined) change({ status: 'stopped', tokens });
    // Stopped while it was recorded: the answer is whole.
    else if (isShown()) finished[i].value = pane.value;
  }
}

/** A small model's answers are shown once they are recorded, so that the views are drawn once. */
export function followResults(): void {
  results.forEach((pane, i) => {
    effect(() => {
      const now = pane.value;
      if (now.status === 'done' && (now.trace !== undefined || !untracked(() => isLive(model.value)))) finished[i]!.value = now;
      else if (now.status === 'idle') finished[i]!.value = emptyPane;
    });
  });
}

/** Records what every recurrence did to the answer of a pane. */
export async function tracePane(i: 0 | 1, signal?: AbortSignal): Promise<void> {
  const { summary, run, shared: asked } = results[i].value;
  if (summary === undefined || run === undefined) return;
  const { seed, initScale } = asked;
  const tokens = [...summary.prompt, ...summary.tokens].slice(0, -1);
  const args = { tokens, recurrences: run.depth, seed, initScale };
  const trace = await engine.call('trace', args, signal === undefined ? {} : { signal });
  if (results[i].value.summary === summary) results[i].value = { ...results[i].value, trace };
}

/** Both panes, one after the other: so each has the device, and its tokens per second, to itself. */
export async function run(which: readonly (0 | 1)[] = [0, 1]): Promise<void> {
  stop();
  const mine = new AbortController();
  controller = mine;
  const id = ++begun;
  batch(() => {
    running.value = true;
    for (const i of which) {
      // What its dial was turned to is in this run.
      clearTimeout(turned[i]);
      results[i].value = { ...results[i].value, id, status: 'waiting' };
    }
  });
  try {
    for (const i of which) {
      if (results[i].value.id !== id) continue;
      if (mine.signal.aborted) results[i].value = { ...results[i].value, status: 'stopped' };
      else await runPane(i, id, mine.signal);
    }
  } finally {
    if (controller === mine) {
      running.value = false;
      void refreshMemory();
    }
  }
}

/** Small models answer while the dial is turned. */
export const isLive = (info: ModelInfo | undefined): boolean => info !== undefined && info.parameters < 2e7;

/** Runs again, a little later, when settings change, as long as the model is small. */
export function followDials(): void {
  panes.forEach((pane, i) => {
    let first = true;
    effect(() => {
      void pane.value;
      if (first) {
        first = false;
        return;
      }
      if (!untracked(() => isLive(model.value) && shared.value.prompt !== '')) return;
      clearTimeout(turned[i]);
      turned[i] = setTimeout(() => void run(running.peek() ? [0, 1] : [i as 0 | 1]), 60);
    });
  });
}

const SURVEY_DEPTHS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/** On a new model: its examples are tried, a telling one is asked, and both panes answer. */
export function followModels(): void {
  const end = () => {
    stop();
    for (const timer of turned) clearTimeout(timer);
  };
  onOpening.push(end);
  onModel.push((info) => {
    // Also what was asked of the old model while this one was loaded.
    end();
    void (async () => {
      survey.value = [];
      if (!info.hasTokenizer) return;
      // A software GPU would take many seconds for it.
      const slow = device.value?.kind === 'webgpu' && device.value.gpu === 'software';
      if (info.examples.length > 0 && isLive(info) && !slow) {
        survey.value = await engine.call('survey', { examples: info.examples, depths: SURVEY_DEPTHS }).catch((error: unknown) => {
          report(error, 'Trying the examples');
          return [];
        });
      }
      if (!isInUse(info)) return;
      const typed = shared.value.prompt;
      if (typed === '' && info.examples.length > 0) setShared({ prompt: tellingExample(info, survey.value) });
      if (panes[1].value.depth === runDefaults(8).depth && info.meanRecurrence > 1 && typed === '')
        panes[1].value = { ...panes[1].value, depth: Math.min(64, info.meanRecurrence) };
      if (shared.value.prompt !== '' && isLive(info)) await run();
    })();
  });
}

/**
 * The example that needs the most depth of those that are answered within the model's usual depth; the first when none is. One whose answer
 * is a single character comes last: a shallow guess may hit it.
 */
function tellingExample(info: ModelInfo, needed: readonly number[]): string {
  const worth = ({ answer }: ModelInfo['examples'][number], i: number): number => {
    const depth = needed[i] ?? 0;
    if (depth === 0 || depth > info.meanRecurrence) return 0;
    return answer.length > 1 ? depth : depth / (2 * info.meanRecurrence);
  };
  const worths = info.examples.map(worth);
  const best = worths.indexOf(Math.max(...worths));
  return info.examples[best]?.prompt ?? '';
}
