import { batch, computed, effect, type Signal, signal } from '@preact/signals';
import { Engine, EngineError, type WorkerLike } from '../worker/client.js';
import type {
  DeviceInfo,
  LoadItem,
  MemoryInfo,
  ModelInfo,
  ModelSource,
  RunSummary,
  StorageInfo,
  TokenItem,
  TraceResult,
} from '../worker/protocol.js';
import { ADDRESS_PACE, paced } from './address.js';
import {
  type PageSettings,
  type RunSettings,
  readSettings,
  type SharedSettings,
  sharedDefaults,
  type ViewName,
  writeSettings,
} from './settings.js';

export const engine = new Engine(
  () => new Worker(new URL('../worker/main.ts', import.meta.url), { type: 'module', name: 'engine' }) as unknown as WorkerLike,
);

const { settings: initial, ignored } = readSettings(location.search.slice(1));

export const view = signal<ViewName>(initial.view);
export const inside = signal(initial.inside);
export const modelName = signal(initial.model);
export const deviceWish = signal(initial.device);
export const shared = signal<SharedSettings>(initial.shared);
export const panes: readonly [Signal<RunSettings>, Signal<RunSettings>] = [signal(initial.panes[0]), signal(initial.panes[1])];

export const pageSettings = computed(
  (): PageSettings => ({
    view: view.value,
    inside: inside.value,
    model: modelName.value,
    device: deviceWish.value,
    shared: shared.value,
    panes: [panes[0].value, panes[1].value],
  }),
);

/** Keeps the address up to date, so that it can be shared, and the page loaded again, at any time. */
export function followSettings(): void {
  const write = paced((query: string) => history.replaceState(null, '', query === '' ? location.pathname : `?${query}`), ADDRESS_PACE);
  effect(() => write(writeSettings(pageSettings.value)));
}

export const setShared = (change: Partial<SharedSettings>): void => {
  shared.value = { ...shared.value, ...change };
};
export const setPane = (i: 0 | 1, change: Partial<RunSettings>): void => {
  panes[i].value = { ...panes[i].value, ...change };
};

export type Status = 'idle' | 'waiting' | 'running' | 'done' | 'stopped' | 'error';

/** What a pane shows. */
export interface PaneState {
  /** Of the run that it shows; 0 before there is one. Runs that have lost their place must not write over a newer one. */
  readonly id: number;
  readonly status: Status;
  /** What was asked. */
  readonly shared: SharedSettings;
  readonly run: RunSettings | undefined;
  readonly tokens: readonly TokenItem[];
  readonly summary: RunSummary | undefined;
  readonly trace: TraceResult | undefined;
  readonly error: string;
}

export const emptyPane: PaneState = {
  id: 0,
  status: 'idle',
  shared: sharedDefaults,
  run: undefined,
  tokens: [],
  summary: undefined,
  trace: undefined,
  error: '',
};
export const results: readonly [Signal<PaneState>, Signal<PaneState>] = [signal(emptyPane), signal(emptyPane)];
/** Whose answer the views below show. */
export const focused = signal<0 | 1>(1);

export const model = signal<ModelInfo | undefined>(undefined);
export const device = signal<DeviceInfo | undefined>(undefined);
export const loading = signal<LoadItem | undefined>(undefined);
export const memory = signal<MemoryInfo | undefined>(undefined);
export const storage = signal<StorageInfo | undefined>(undefined);

/** Something that the visitor should know, with a way out. */
export interface Banner {
  readonly key: string;
  readonly level: 'note' | 'problem';
  readonly text: string;
  readonly actions: readonly { readonly label: string; readonly run: () => void }[];
}

export const banners = signal<readonly Banner[]>(
  ignored.length === 0
    ? []
    : [
        {
          key: 'link',
          level: 'note',
          text: `This link has settings that do not fit and were left out: ${ignored.join(', ')}.`,
          actions: [],
        },
      ],
);
export const dismiss = (key: string): void => {
  banners.value = banners.value.filter((banner) => banner.key !== key);
};
export const show = (banner: Banner): void => {
  banners.value = [...banners.value.filter(({ key }) => key !== banner.key), banner];
};

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Tells of an error with what can be done about it. Stops that the visitor asked for are no errors. */
export function report(error: unknown, what: string): void {
  const kind = error instanceof EngineError ? error.kind : 'other';
  if (kind === 'aborted') return;
  const text = `${what}: ${messageOf(error)}`;
  const again = { label: 'Start the engine anew', run: () => void restart() };
  const onCpu = { label: 'Use the CPU', run: () => void chooseDevice('cpu') };
  if (kind === 'lost') show({ key: 'lost', level: 'problem', text, actions: [again, onCpu] });
  else if (kind === 'memory')
    show({
      key: 'memory',
      level: 'problem',
      text: `${text}. A smaller model, a smaller KV policy or less depth needs less.`,
      actions: [again],
    });
  else if (kind === 'quota')
    show({ key: 'quota', level: 'problem', text, actions: [{ label: 'See what is stored', run: () => goTo('models') }] });
  else
    show({
      key: what,
      level: 'problem',
      text,
      actions:
        what === 'Loading the model'
          ? [{ label: 'Load the built-in model', run: () => void openModel({ kind: 'embedded', name: '' }, true) }, onCpu]
          : [],
    });
}

export const goTo = (to: ViewName): void => {
  view.value = to;
};

/** What is open, or at first what the address asks for. */
let source: ModelSource = sourceFromSettings();

/** Called when another model is asked for: what the one in use is doing ends. */
export const onOpening: (() => void)[] = [];

/** Called with every model that has been loaded. */
export const onModel: ((info: ModelInfo) => void)[] = [];

let openings = 0;

/**
 * Loads a model; the page keeps the old one when that fails. Gives whether it worked. A new model's prompt is its own: with `fresh` the old
 * one goes.
 */
export async function openModel(from: ModelSource, fresh = false): Promise<boolean> {
  const mine = ++openings;
  const progress = (item: LoadItem | undefined) => {
    if (mine === openings) loading.value = item;
  };
  progress({ what: 'starting', loaded: 0, total: 1 });
  for (const f of onOpening) f();
  try {
    const opened = await engine.call('open', { device: deviceWish.value, source: from }, { onItem: progress });
    source = from;
    batch(() => {
      device.value = opened.device;
      model.value = opened.model;
      modelName.value = from.kind === 'embedded' ? from.name : from.kind === 'stored' ? `stored:${from.id}` : '';
      if (fresh) setShared({ prompt: '' });
      for (const pane of results) pane.value = emptyPane;
      progress(undefined);
    });
    dismiss('Loading the model');
    deviceNotes(opened.device);
    void refreshMemory();
    for (const f of onModel) f(opened.model);
    return true;
  } catch (error) {
    report(error, 'Loading the model');
    return false;
  } finally {
    progress(undefined);
  }
}

/** Whether this model is the one in use, and no other is on its way. */
export const isInUse = (info: ModelInfo): boolean => model.peek() === info && loading.peek() === undefined;

/** Takes another model and shows what it answers. */
export async function takeModel(from: ModelSource): Promise<void> {
  if (await openModel(from, true)) goTo('think');
}

export function sourceFromSettings(): ModelSource {
  const name = modelName.value;
  return name.startsWith('stored:') ? { kind: 'stored', id: name.slice(7) } : { kind: 'embedded', name };
}

export async function chooseDevice(wish: PageSettings['device']): Promise<void> {
  const before = deviceWish.value;
  deviceWish.value = wish;
  dismiss('lost');
  if (!(await openModel(source)) && deviceWish.value === wish) deviceWish.value = before;
}

/** A new worker with the same model: gives back all memory, whatever has happened. */
export async function restart(): Promise<void> {
  engine.restart();
  for (const key of ['lost', 'memory']) dismiss(key);
  await openModel(source);
}

function deviceNotes({ isolated }: DeviceInfo): void {
  dismiss('isolated');
  if (isolated) return;
  show({
    key: 'isolated',
    level: 'note',
    text: 'This page is not cross-origin isolated, so the CPU device has one thread. A reload lets the page’s own service worker set the headers.',
    actions: [{ label: 'Reload', run: () => location.reload() }],
  });
}

export async function refreshMemory(): Promise<void> {
  memory.value = await engine.call('memory', undefined).catch(() => undefined);
}

export async function refreshStorage(): Promise<void> {
  storage.value = await engine.call('storage', undefined).catch(() => undefined);
}
