import { DeviceLostError, OptionError, OutOfMemoryError } from '@unroll/tensor';
import { IntegrityError, NetworkError, QuotaError } from '../models/errors.js';
import type { FromWorker, MethodName, Methods, ToWorker, WireError } from './protocol.js';

/** What a handler gets beside its arguments. */
export interface CallContext<M extends MethodName> {
  readonly signal: AbortSignal;
  readonly item: (item: Methods[M]['item']) => void;
}

export type Handlers = {
  readonly [M in MethodName]: (args: Methods[M]['args'], context: CallContext<M>) => Promise<Methods[M]['result']>;
};

/** The worker's side of the channel; `self` in a worker. */
export interface Port {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<ToWorker>) => void): void;
}

export function describeError(error: unknown, signal?: AbortSignal): WireError {
  const name = error instanceof Error ? error.name : 'Error';
  const message = error instanceof Error ? error.message : String(error);
  const kind = (): WireError['kind'] => {
    if (signal?.aborted) return 'aborted';
    if (DeviceLostError.is(error) && error instanceof DeviceLostError) return 'lost';
    if (error instanceof OutOfMemoryError || error instanceof RangeError) return 'memory';
    if (error instanceof QuotaError || name === 'QuotaExceededError') return 'quota';
    if (error instanceof IntegrityError) return 'integrity';
    if (error instanceof NetworkError) return 'network';
    if (error instanceof OptionError) return 'option';
    return 'other';
  };
  return { kind: kind(), name, message };
}

/** Arrays that may move instead of being copied: typed arrays one level deep and in lists. */
function transfers(value: unknown, found: Set<ArrayBuffer> = new Set()): ArrayBuffer[] {
  if (ArrayBuffer.isView(value)) {
    if (value.buffer instanceof ArrayBuffer) found.add(value.buffer);
  } else if (Array.isArray(value)) {
    for (const part of value) transfers(part, found);
  } else if (typeof value === 'object' && value !== null && !(value instanceof Blob)) {
    for (const part of Object.values(value)) transfers(part, found);
  }
  return [...found];
}

/** Answers the page's calls with `handlers`. */
export function serve(port: Port, handlers: Handlers): void {
  const running = new Map<number, AbortController>();
  const answer = async <M extends MethodName>(id: number, method: M, args: Methods[M]['args']) => {
    const controller = new AbortController();
    running.set(id, controller);
    const { signal } = controller;
    try {
      const result = await handlers[method](args, { signal, item: (item) => port.postMessage({ type: 'item', id, item }) });
      port.postMessage({ type: 'done', id, result }, transfers(result));
    } catch (error) {
      port.postMessage({ type: 'error', id, error: describeError(error, signal) });
    } finally {
      running.delete(id);
    }
  };
  port.addEventListener('message', ({ data }) => {
    if (data.type === 'abort') running.get(data.id)?.abort(new DOMException('stopped', 'AbortError'));
    else void answer(data.id, data.method, data.args as never);
  });
}

/** Lets one piece of work after the other have the device. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `f` once all that was asked before has ended. An abort while it waits ends it. */
  async take<R>(signal: AbortSignal, f: () => Promise<R>): Promise<R> {
    const before = this.#last;
    const mine = (async () => {
      await before;
      signal.throwIfAborted();
      return f();
    })();
    this.#last = mine.catch(() => {});
    return mine;
  }
}
