import { loadPeer } from '../peers/index.mjs';

export const title = 'Start';
export const about =
  'From the start of a process to its first result, with a warm file cache: a 64 x 64 product (node-llama-cpp: a token of the tiny decoder), and for unroll also the first token of `unroll generate` with the embedded model.';
export const threads = [1];

export async function jobs(peers) {
  const product = (name) => ({ task: 'start', what: 'first product', kind: 'f32', script: '../first-result.mjs', args: [name] });
  const job = (peer, item) => ({ peer, threads: 1, open: false, items: [item] });
  const list = [job('node', { ...product('node'), what: 'Node alone' })];
  for (const name of peers) {
    const { kinds } = await loadPeer(name);
    if (name === 'unroll') {
      const args = ['generate', '1+1=', '--max-new-tokens', '1'];
      list.push(job(name, { ...product(name), what: 'first token of the embedded model', script: '../../../apps/cli/dist/main.js', args }));
    }
    if (kinds.decoder.length > 0) list.push(job(name, product(name)));
  }
  return list;
}
