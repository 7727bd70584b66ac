// tfjs switches its threads off under Node. The build with threads works there once its workers get their scripts from files instead of
// blobs, which worker_threads do not read.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker as NodeWorker } from 'node:worker_threads';

const require = createRequire(import.meta.url);

export function allowThreads(tf, threads) {
  const { wasmWorkerContents } = require('@tensorflow/tfjs-backend-wasm/wasm-out/tfjs-backend-wasm-threaded-simd.worker.js');
  const factory = require('@tensorflow/tfjs-backend-wasm/wasm-out/tfjs-backend-wasm-threaded-simd.js');
  const script = join(mkdtempSync(join(tmpdir(), 'tfjs-threads-')), 'factory.js');
  writeFileSync(script, `var WasmBackendModuleThreadedSimd = ${factory.toString()}`);
  class ScriptWorker extends NodeWorker {
    constructor() {
      // The text has raw line ends inside its string literals.
      super(wasmWorkerContents.replace(/\n/g, '\\n'), { eval: true });
    }

    postMessage(message, transfer) {
      super.postMessage(message.cmd === 'load' ? { ...message, urlOrBlob: script } : message, transfer);
    }
  }
  // The library puts Node's own class there while it starts.
  Object.defineProperty(globalThis, 'Worker', { get: () => ScriptWorker, set: () => {}, configurable: true });
  // It takes at most half of the processors that it counts.
  const os = require('node:os');
  os.cpus = () => Array.from({ length: 2 * threads });
  tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', true);
}
