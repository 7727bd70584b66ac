/** What a worker is started with. */
export interface WorkerStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly thread: number;
  /** Looks at the next job this often before it sleeps. */
  readonly spins: number;
}

/** Where threads come from. */
export interface Platform {
  readonly cores: number;
  /** Whether the calling thread may sleep: a page's own thread may not. */
  readonly mayWait: boolean;
  /** Why there are no threads. */
  readonly obstacle?: string;
  /** Starts a worker that keeps no process alive; gives what ends it. `failed` hears of a worker that could not start. */
  start(message: WorkerStart, url: URL | string | undefined, failed: (reason: string) => void): () => void;
}

// What src/worker.ts does, for engines that may run it from a string.
const serve = `const serve = ({ module, memory, thread, spins }) => {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  for (let first = 1; ; first = 0) {
    try {
      return exports.serve(thread, spins, first);
    } catch {
      exports.failed();
    }
  }
};`;

interface NodeWorker {
  on(event: 'error', listener: (error: Error) => void): void;
  unref(): void;
  terminate(): Promise<unknown>;
}

interface NodeModules {
  'node:worker_threads': { Worker: new (source: URL | string, options: object) => NodeWorker };
  'node:os': { availableParallelism(): number; cpus(): unknown[]; arch(): string };
  'node:fs': { readFileSync(path: string, encoding: 'utf8'): string };
}

type BuiltinModules = <N extends keyof NodeModules>(name: N) => NodeModules[N];

/** Processors that share no arithmetic units. */
function nodeCores(builtin: BuiltinModules): number {
  const os = builtin('node:os');
  const available = os.availableParallelism();
  try {
    const fs = builtin('node:fs');
    const cores = os.cpus().map((_, i) => fs.readFileSync(`/sys/devices/system/cpu/cpu${i}/topology/thread_siblings_list`, 'utf8'));
    return Math.min(available, new Set(cores).size);
  } catch {
    return os.arch().startsWith('arm') || available <= 2 ? available : Math.ceil(available / 2);
  }
}

function nodePlatform(builtin: BuiltinModules): Platform {
  const { Worker } = builtin('node:worker_threads');
  return {
    cores: nodeCores(builtin),
    mayWait: true,
    start(message, url, failed) {
      const source = url ?? `${serve}\nserve(globalThis.process?.getBuiltinModule('node:worker_threads').workerData);`;
      const worker = new Worker(typeof source === 'string' && url !== undefined ? new URL(source) : source, {
        eval: url === undefined,
        workerData: message,
        execArgv: [],
      });
      worker.on('error', (error) => failed(error.message));
      worker.unref();
      return () => void worker.terminate();
    },
  };
}

function webPlatform(scope: typeof globalThis): Platform {
  const isolated = scope.crossOriginIsolated === true;
  const logical = scope.navigator?.hardwareConcurrency ?? 1;
  return {
    // Browsers tell the number of hardware threads alone, of which most processors have two a core.
    cores: Math.min(8, logical <= 2 ? logical : Math.ceil(logical / 2)),
    mayWait: typeof document === 'undefined',
    ...(scope.Worker === undefined ? { obstacle: 'this engine has no workers' } : {}),
    ...(isolated ? {} : { obstacle: 'the page is not cross-origin isolated' }),
    start(message, url, failed) {
      const own =
        url === undefined ? URL.createObjectURL(new Blob([`${serve}\nonmessage = ({ data }) => { serve(data); close(); };`])) : undefined;
      const worker = new Worker((url ?? own)!, { name: 'unroll' });
      worker.onerror = (event) => {
        event.preventDefault();
        failed(event.message ?? 'the worker script could not be loaded');
      };
      worker.postMessage(message);
      return () => {
        worker.terminate();
        if (own !== undefined) URL.revokeObjectURL(own);
      };
    },
  };
}

/** Node, or what offers its worker threads; else web workers. No module of Node is imported, so that bundles for browsers stay free of it. */
export function findPlatform(): Platform {
  const { process } = globalThis as { process?: { getBuiltinModule?: BuiltinModules } };
  const builtin = process?.getBuiltinModule;
  const isNode = builtin?.('node:worker_threads') !== undefined && typeof document === 'undefined';
  return isNode ? nodePlatform(builtin!) : webPlatform(globalThis);
}
