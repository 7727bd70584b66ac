import { apply, defineOp, expectDTypes } from '../op.js';
import type { Tensor } from '../tensor.js';
import { Scratch } from '../webgpu/kernel.js';
import { addRmsNormOp, checkAddNorm } from './add-rms-norm.js';
import { fusedDot } from './dot-wgsl.js';
import { gatedMatmulOp, gatedProduct } from './gated-matmul.js';
import { normedSamples } from './norm-samples.js';
import { rmsNormWgsl } from './rms-norm.js';

interface AddNormGatedAttrs {
  readonly eps: number;
}

export const addNormGatedMatmulOp = defineOp<AddNormGatedAttrs>({
  name: 'addNormGatedMatmul',
  weight: 4,
  infer(inputs, { eps }) {
    expectDTypes('addNormGatedMatmul', inputs, ['f32', 'f32', 'f32', 'f32', 'f32'], 4);
    checkAddNorm('addNormGatedMatmul', inputs.slice(0, 4), eps);
    return [...gatedMatmulOp.infer([inputs[0]!, inputs[4]!], null), inputs[0]!];
  },
  reference([a, r, w0, w, b], { eps }, [y, z]) {
    const normed = { ...a!, data: new Float32Array(a!.data.length) };
    addRmsNormOp.reference([a!, r!, w0!, w!], { eps }, [z!, normed]);
    gatedMatmulOp.reference([normed, b!], null, [y!]);
  },
  cpu(c, [a, r, w0, w, b], { eps }, [y, z]) {
    addRmsNormOp.cpu(c, [a!, r!, w0!], { eps }, [z!]);
    if (y!.size === 0) return;
    const { M, K } = gatedProduct.sizes([a!, b!]);
    const normed = c.scratch(M * K * 4);
    c.kernels.rmsNorm(c.at(z!), c.at(w!), normed, K, eps, 0, M);
    gatedProduct.cpu(c, normed, b!, y!, M);
  },
  wgsl([a, r, w0, w, b], { eps }, [y, z], traits) {
    const { M, K, I } = gatedProduct.sizes([a!, b!]);
    const dot = { left: 'addNorm', gated: true, inputs: [a!, r!, w0!, w!], b: b!, c: y!, z: z!, M, N: I, K, eps } as const;
    const fused = y!.size === 0 ? undefined : fusedDot(dot, traits);
    if (fused !== undefined) return fused;
    const sum = addRmsNormOp.wgsl([a!, r!, w0!], { eps }, [z!], traits);
    if (y!.size === 0) return sum;
    const normed = new Scratch(Math.max(4, M * K * 4));
    return [...sum, ...rmsNormWgsl(z!, w!, normed, M, eps, traits), ...gatedProduct.wgsl(normed, b!, y!, M, traits)];
  },
  vjp: 'it keeps no normed rows, gate and up values; for a gradient use rmsNorm, add, matmul and siluMul',
  samples: (g) => normedSamples(g, { sum: true, gated: true }),
});

/**
 * [gatedMatmul(rmsNorm(z, weight), b), z] with z = rmsNorm(x + y, outer): the residual sum and norms before a gated MLP, and its inner
 * half. x and y (..., K), weights (K), b (2 I, K) with the gate rows first -> (..., I) and (..., K).
 */
export function addNormGatedMatmul(
  x: Tensor,
  y: Tensor,
  outer: Tensor,
  weight: Tensor,
  b: Tensor,
  { eps }: { readonly eps: number },
): [Tensor<'f32'>, Tensor<'f32'>] {
  return apply(addNormGatedMatmulOp, [x, y, outer, weight, b], { eps }) as [Tensor<'f32'>, Tensor<'f32'>];
}
