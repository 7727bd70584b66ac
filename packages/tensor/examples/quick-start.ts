// #region quick-start
import { gatherRows, matmul, rmsNorm, softmax, tidy, topK } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';

const device = createCpuDevice();
const embedding = device.tensor([1, 0, 0, 1, 1, 1], [3, 2], { memory: 'weights' }); // (V, C)
const norm = device.tensor([1, 1], [2], { memory: 'weights' }); // (C)
const tokens = device.tensor([2, 0], [2], { dtype: 'i32' }); // (T)

const { values, indices } = tidy(device, () => {
  const x = rmsNorm(gatherRows(embedding, tokens), norm); // (T, C)
  const logits = matmul(x, embedding, { transposeB: true }); // (T, V)
  return topK(softmax(logits), 1); // (T, 1) each; everything else is freed
});
console.log(await indices.data(), await values.data());
console.log(device.memory().bytes); // { weights: 32, kv: 0, scratch: 24 }
device.dispose();
// #endregion
