import { existsSync, readFileSync } from 'node:fs';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { expect, it } from 'vitest';
import { forward, latentStates, loadRecurrentModel } from '@unroll/recurrent';
import { bytesSource, openSafetensors } from '@unroll/checkpoint';

it.each(['adder', 'huginn-small', 'huginn-steady'])('parity %s', async (name) => {
  const dir = new URL(`../../../../shared/fixtures/${name}/`, import.meta.url);
  expect(existsSync(dir)).toBe(true);
  const open = (f: string) => openSafetensors(bytesSource(readFileSync(new URL(f, dir)), f));
  const device = createCpuDevice();
  const t0 = performance.now();
  const weights = await open('model.safetensors');
  const model = await loadRecurrentModel({ device, config: JSON.parse(readFileSync(new URL('config.json', dir), 'utf8')), weights: { name, entries: weights.entries, read: (n) => weights.read(n) } });
  const exp = await open('expected.safetensors');
  const f32 = async (n: string) => { const b = await exp.read(n); return new Float32Array(b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength)); };
  const idb = await exp.read('input_ids'); const ids = new Int32Array(idb.buffer.slice(idb.byteOffset, idb.byteOffset + idb.byteLength));
  const tokens = [Array.from(ids.slice(0, 11)), Array.from(ids.slice(11))];
  const C = model.config.width;
  const s0 = device.tensor(await f32('initial_state'), [2, 11, C]);
  for (const n of exp.entries.keys()) {
    if (!n.startsWith('logits_')) continue;
    const r = Number(/r(\d+)$/.exec(n)![1]);
    const logits = forward(model, tokens, { recurrences: r, initialState: n.includes('zero') ? { scale: 0 } : s0 });
    const got = await logits.data(); const want = await f32(n);
    let worst = 0; for (let i = 0; i < want.length; i++) worst = Math.max(worst, Math.abs(got[i]! - want[i]!));
    console.log(name, n, worst);
    logits.dispose();
  }
  console.log(performance.now() - t0, device.memory());
  model.dispose(); s0.dispose();
  expect(device.memory().buffers).toBe(0);
});
