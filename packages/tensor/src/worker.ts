// The script of a worker thread, for `createCpuDevice({ workerUrl })`: where a content security policy allows no scripts from strings.
import type { WorkerStart } from './cpu/platform.js';

export type { WorkerStart };

interface Serving {
  serve(thread: number, spins: number, first: number): void;
  failed(): void;
}

function serve({ module, memory, thread, spins }: WorkerStart): void {
  const jobs = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Serving;
  for (let first = 1; ; first = 0) {
    try {
      jobs.serve(thread, spins, first);
      return;
    } catch {
      // A kernel trapped: the device that waits for it throws.
      jobs.failed();
    }
  }
}

interface NodeScope {
  getBuiltinModule?(name: 'node:worker_threads'): { workerData?: WorkerStart | null } | undefined;
}

const given = (globalThis as { process?: NodeScope }).process?.getBuiltinModule?.('node:worker_threads')?.workerData;
if (given?.memory !== undefined) {
  serve(given);
} else {
  globalThis.onmessage = ({ data }: MessageEvent<WorkerStart>) => {
    serve(data);
    globalThis.close();
  };
}
