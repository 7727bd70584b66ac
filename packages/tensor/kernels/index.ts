export { attention, rope, storeStep } from './attention';
export { binary, siluMul, unary } from './elementwise';
export { attentionGrad, crossEntropyGrad, rmsNormGrad, scatterAddRows, siluMulGrad } from './gradient';
export { gemm, packRows } from './gemm';
export { matmul, matvec, transpose } from './matmul';
export { crossEntropy, rmsNorm, softmax } from './norm';
export { random } from './random';
export { reduce } from './reduce';
export { argmax, bf16ToF32, copyRuns, f16ToF32, gatherRows, permute, scatterRows, topK, zero } from './rows';
