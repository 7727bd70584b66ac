import type { FromWorker, MethodName, Methods, ToWorker, WireError } from './protocol.js';

/** An error that came over from the worker. */
export class EngineError extends Error {
  readonly kind: WireError['kind'];

  constructor(wire: WireError) {
    super(wire.message);
    this.name = wire.name;
    this.kind = wire.kind;
  }
}

export interface CallOptions<M extends MethodName> {
  readonly signal?: AbortSignal;
  readonly onItem?: (item: Methods[M]['item']) => void;
}

interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (error: EngineError) => void;
  readonly onItem: ((item: never) => void) | undefined;
}

/** What the client needs of a worker. */
export interface WorkerLike {
  postMessage(message: ToWorker): void;
  terminate(): void;
  onmessage: ((event: MessageEvent<FromWorker>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
}

/** The page's side of the channel. When the worker dies, every open call is told, and the next call starts another. */
export class Engine {
  #worker: WorkerLike | undefined;
  #next = 1;
  readonly #pending = new Map<number, Pending>();

  constructor(private readonly spawn: () => WorkerLike) {}

  /** Rejects with EngineError; of kind `aborted` once the signal aborts. */
  call<M extends MethodName>(method: M, args: Methods[M]['args'], options: CallOptions<M> = {}): Promise<Methods[M]['result']> {
    const { signal, onItem } = options;
    if (signal?.aborted) return Promise.reject(new EngineError({ kind: 'aborted', name: 'AbortError', message: 'stopped' }));
    const worker = this.#open();
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onItem: onItem as Pending['onItem'] });
      signal?.addEventListener('abort', () => worker.postMessage({ type: 'abort', id }), { once: true });
      worker.postMessage({ type: 'call', id, method, args });
    });
  }

  /** Ends the worker and with it all that it holds. */
  restart(reason = 'the engine was restarted'): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    const open = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of open) reject(new EngineError({ kind: 'aborted', name: 'AbortError', message: reason }));
  }

  #open(): WorkerLike {
    if (this.#worker !== undefined) return this.#worker;
    const worker = this.spawn();
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onerror = (event) => {
      const open = [...this.#pending.values()];
      this.#pending.clear();
      this.#worker?.terminate();
      this.#worker = undefined;
      const message = `the engine stopped: ${event.message || 'its script did not load'}`;
      for (const { reject } of open) reject(new EngineError({ kind: 'other', name: 'WorkerError', message }));
    };
    this.#worker = worker;
    return worker;
  }

  #receive(message: FromWorker): void {
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    if (message.type === 'item') {
      pending.onItem?.(message.item as never);
      return;
    }
    this.#pending.delete(message.id);
    if (message.type === 'done') pending.resolve(message.result as never);
    else pending.reject(new EngineError(message.error));
  }
}
