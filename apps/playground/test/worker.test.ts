import { parseRecurrentConfig } from '@unroll/recurrent';
import { DeviceLostError, OptionError, OutOfMemoryError } from '@unroll/tensor';
import { expect, test } from 'vitest';
import { ouroJson } from '../../../tooling/reference-models/relative-cases.js';
import { IntegrityError, NetworkError, QuotaError } from '../src/models/errors.js';
import { Engine, EngineError, type WorkerLike } from '../src/worker/client.js';
import { describeModel } from '../src/worker/engine.js';
import { describeError, type Handlers, type Port, serve, Turns } from '../src/worker/host.js';
import { motionOf, relativeChange } from '../src/worker/motion.js';
import type { FromWorker, ToWorker } from '../src/worker/protocol.js';

/** A worker that lives in this thread: messages go both ways as copies, in later turns. */
function pairWith(handlers: Partial<Handlers>): { engine: Engine; worker: () => WorkerLike; started: () => number } {
  let started = 0;
  let current: WorkerLike;
  const spawn = (): WorkerLike => {
    started++;
    let listen: ((event: MessageEvent<ToWorker>) => void) | undefined;
    const worker: WorkerLike = {
      onmessage: null,
      onerror: null,
      terminate: () => {
        listen = undefined;
      },
      postMessage: (data) => queueMicrotask(() => listen?.({ data: structuredClone(data) } as MessageEvent<ToWorker>)),
    };
    const port: Port = {
      postMessage: (data: FromWorker) => {
        const copy = structuredClone(data);
        queueMicrotask(() => worker.onmessage?.({ data: copy } as MessageEvent<FromWorker>));
      },
      addEventListener: (_, listener) => {
        listen = listener;
      },
    };
    serve(port, handlers as Handlers);
    current = worker;
    return worker;
  };
  return { engine: new Engine(spawn), worker: () => current, started: () => started };
}

test('calls answer with items on the way, several at once', async () => {
  const { engine } = pairWith({
    labAnswer: async ({ id }) => `answer ${id}`,
    labStep: async ({ count }, { item }) => {
      for (let i = 1; i <= count; i++) item({ recurrence: i, change: 0, norm: 0, top: [] });
      return {} as never;
    },
  });
  const seen: number[] = [];
  const [first, second] = await Promise.all([
    engine.call('labAnswer', { id: 1, recurrences: 1 }),
    engine.call('labAnswer', { id: 2, recurrences: 1 }),
    engine.call('labStep', { id: 1, count: 3 }, { onItem: ({ recurrence }) => seen.push(recurrence) }),
  ]);
  expect([first, second]).toEqual(['answer 1', 'answer 2']);
  expect(seen).toEqual([1, 2, 3]);
});

test('errors keep their kind, and an abort is told from them', async () => {
  const { engine } = pairWith({
    storage: async () => {
      throw new QuotaError('full');
    },
    memory: async () => {
      throw new OptionError('no');
    },
    persist: (_, { signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  });
  await expect(engine.call('storage', undefined)).rejects.toMatchObject({ kind: 'quota', message: 'full' });
  await expect(engine.call('memory', undefined)).rejects.toMatchObject({ kind: 'option', name: 'OptionError' });
  const controller = new AbortController();
  const call = engine.call('persist', undefined, { signal: controller.signal });
  controller.abort();
  await expect(call).rejects.toMatchObject({ kind: 'aborted' });
  await expect(engine.call('memory', undefined, { signal: controller.signal })).rejects.toBeInstanceOf(EngineError);
});

test.each([
  ['lost', new DeviceLostError('gone')],
  ['memory', new OutOfMemoryError('full')],
  ['memory', new RangeError('Array buffer allocation failed')],
  ['quota', new DOMException('full', 'QuotaExceededError')],
  ['network', new NetworkError('away')],
  ['integrity', new IntegrityError('other')],
  ['other', new Error('what')],
] as const)('%s is what the page tells by', (kind, error) => {
  expect(describeError(error)).toEqual({ kind, name: error.name, message: error.message });
  expect(describeError(error, AbortSignal.abort()).kind).toBe('aborted');
});

test('a worker that dies fails its calls, and the next call starts another', async () => {
  const { engine, worker, started } = pairWith({ labAnswer: async () => 'here', storage: () => new Promise(() => {}) });
  const lost = engine.call('storage', undefined);
  worker().onerror?.({ message: 'out of memory' } as ErrorEvent);
  await expect(lost).rejects.toThrow('the engine stopped: out of memory');
  const ended = engine.call('storage', undefined);
  engine.restart('on purpose');
  await expect(ended).rejects.toMatchObject({ kind: 'aborted', message: 'on purpose' });
  expect(await engine.call('labAnswer', { id: 1, recurrences: 1 })).toBe('here');
  expect(started()).toBe(3);
});

test('a model with an exit gate is told from one without, and its layers are what a recurrence runs through', () => {
  const files = { kind: 'files', name: 'x', files: [] } as const;
  const describe = (shapes: Record<string, number[]>) => {
    const checkpoint = { entries: new Map(Object.entries(shapes).map(([name, shape]) => [name, { name, shape, dtype: 'F32' }])) };
    const opened = { name: 'x', config: parseRecurrentConfig(ouroJson), checkpoint, maxNewTokens: 8, examples: [], about: '' };
    return describeModel(opened as never, files, 0);
  };
  const layer = { 'model.layers.0.self_attn.q_proj.weight': [24, 24], 'model.layers.0.input_layernorm_2.weight': [24] };
  const ouro = describe({ 'model.embed_tokens.weight': [23, 24], ...layer, 'model.early_exit_gate.weight': [1, 24] });
  expect(ouro).toMatchObject({ hasExitGate: true, coreParameters: 600, hasTokenizer: false });
  const huginn = describe({ 'transformer.core_block.0.norm_4.weight': [24], 'transformer.ln_f.weight': [24] });
  expect(huginn).toMatchObject({ hasExitGate: false, coreParameters: 24 });
});

test('turns run one after the other, also past a failure, and an abort leaves the line', async () => {
  const turns = new Turns();
  const log: string[] = [];
  const work =
    (name: string, fails = false) =>
    async () => {
      log.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      log.push(`${name} ends`);
      if (fails) throw new Error(name);
    };
  const { signal } = new AbortController();
  const gone = new AbortController();
  const first = turns.take(signal, work('a', true));
  const second = turns.take(gone.signal, work('b'));
  const third = turns.take(signal, work('c'));
  gone.abort();
  await expect(first).rejects.toThrow('a');
  await expect(second).rejects.toThrow();
  await third;
  expect(log).toEqual(['a begins', 'a ends', 'c begins', 'c ends']);
});

const path = (count: number, point: (i: number) => [number, number]) =>
  Float32Array.from(Array.from({ length: count }, (_, i) => point(i)).flat());

test('motions: a fixed point rests, an orbit comes back, a slider goes on', () => {
  const circle = path(25, (i) => [Math.cos(i), Math.sin(i)]);
  const line = path(25, (i) => [i, 0.1 * Math.sin(i)]);
  expect(motionOf(circle, 0.4)).toBe('orbit');
  expect(motionOf(line, 0.4)).toBe('slider');
  expect(motionOf(line, 0.001)).toBe('fixed point');
  expect(
    motionOf(
      path(4, (i) => [i, 0]),
      0.4,
    ),
  ).toBe('still moving');
});

test("relative change is |s - s'| / |s| of each recurrence and position", () => {
  const states = Float32Array.of(0, 0, 3, 4, /* s_1 */ 3, 4, 3, 4, /* s_2 */ 6, 8, 0, 5);
  const change = relativeChange(states, 2, 2, 2);
  expect([...change].map((x) => Number(x.toFixed(6)))).toEqual([1, 0, 0.5, Number((Math.sqrt(10) / 5).toFixed(6))]);
});
