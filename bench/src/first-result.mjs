// Prints a line as soon as a peer has computed something: a product of two 64 x 64 matrices, a token where it offers no product, or
// nothing for `node`.
import { loadPeer } from './peers/index.mjs';

const [name] = process.argv.slice(2);
if (name !== 'node') {
  const { open, kinds } = await loadPeer(name);
  const session = await open({ threads: 1 });
  if (kinds.gemm.length === 0) await (await session.decoder({ model: 'tiny', kind: 'f32' })).run([1, 2, 3], 1);
  else {
    const size = { M: 64, K: 64, N: 64, kind: 'f32', constantB: false };
    const values = new Float32Array(64 * 64).fill(0.5);
    await (await session.gemm(size, values, values)).result();
  }
}
console.log('done');
