import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** Peers by name; each is a module beside this one. */
export const peerNames = ['unroll', 'onnxruntime-node', 'onnxruntime-web', 'tfjs-wasm', 'jax-js', 'node-llama-cpp', 'torch'];

/** Known, and not among what runs here, with the reason. */
export const notRun = [
  { peer: '@tensorflow/tfjs-node', reason: 'its npm package has no native code: the install script downloads libtensorflow' },
  {
    peer: '@wllama/wllama',
    reason: 'needs JSPI and a page: it runs in Chromium alone, where no figure can be taken in turn with the others',
  },
  { peer: '@huggingface/transformers', reason: 'runs on onnxruntime-node, which is measured itself' },
];

export const loadPeer = (name) => import(`./${name}.mjs`);

const require = createRequire(import.meta.url);

/** The folder of an installed package. Throws where it is missing. */
export function packageFolder(name) {
  const found = require.resolve.paths(name).map((folder) => join(folder, name, 'package.json'));
  for (const path of found) {
    try {
      readFileSync(path);
      return dirname(path);
    } catch {}
  }
  throw new Error(`package "${name}" is not installed`);
}

/** Name and version of the packages that a peer is made of. */
export const versionsOf = ({ packages }) =>
  packages.map((name) => `${name} ${JSON.parse(readFileSync(join(packageFolder(name), 'package.json'), 'utf8')).version}`);
