// #region first-look
import { bytesFiles, encodeSafetensors, fromFloat32, openCheckpoint, toFloat32 } from '@unroll/checkpoint';

const file = await encodeSafetensors([
  { name: 'wte.weight', dtype: 'BF16', shape: [2, 2], bytes: fromFloat32(Float32Array.of(1, 2, 3, 0.5), 'BF16') },
  { name: 'steps', dtype: 'I32', shape: [], bytes: new Uint8Array(Int32Array.of(4).buffer) },
]);

const checkpoint = await openCheckpoint(bytesFiles({ 'model.safetensors': file }));
for (const { name, dtype, shape } of checkpoint.entries.values()) console.log(name, dtype, shape);

const values = toFloat32(await checkpoint.read('wte.weight'), 'BF16');
console.log(values); // 1, 2, 3, 0.5
await checkpoint.close();

// #endregion

export { values };
