// Web Workers for libraries that know no others: enough of `Worker` on top of worker_threads for a script in a blob.
import { resolveObjectURL } from 'node:buffer';
import { Worker as NodeWorker } from 'node:worker_threads';

const PRELUDE = `const { parentPort } = require('node:worker_threads');
globalThis.self = globalThis;
globalThis.postMessage = (message) => parentPort.postMessage(message);
parentPort.on('message', (data) => globalThis.onmessage({ data }));
`;

class BlobWorker {
  onmessage = null;
  onerror = null;
  #worker;
  #waiting = [];

  constructor(url) {
    resolveObjectURL(String(url))
      .text()
      .then((text) => {
        this.#worker = new NodeWorker(PRELUDE + text, { eval: true });
        this.#worker.on('message', (data) => this.onmessage?.({ data }));
        this.#worker.on('error', (error) => this.onerror?.(error));
        for (const message of this.#waiting) this.#worker.postMessage(message);
      });
  }

  postMessage(message) {
    if (this.#worker === undefined) this.#waiting.push(message);
    else this.#worker.postMessage(message);
  }

  terminate() {
    return this.#worker?.terminate();
  }
}

/** Gives the process a `Worker`, and a `navigator` that names so many threads. */
export function provideWorkers(threads) {
  globalThis.Worker = BlobWorker;
  Object.defineProperty(globalThis, 'navigator', { value: { hardwareConcurrency: threads }, configurable: true });
}
