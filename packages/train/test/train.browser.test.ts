import type { Device } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { createWebGPUDevice, type GpuLike } from '@unroll/tensor/webgpu';
import { Trainer, type TrainingConfig } from '@unroll/train';
import { expect, it } from 'vitest';

const config: TrainingConfig = {
  model: {
    n_embd: 16,
    num_attention_heads: 2,
    intermediate_size: 24,
    vocab_size: 24,
    block_size: 32,
    n_layers_in_prelude: 1,
    n_layers_in_recurrent_block: 1,
    n_layers_in_coda: 1,
    mean_recurrence: 2,
    mean_backprop_depth: 2,
    norm_eps: 1e-6,
    tie_embeddings: true,
    qk_bias: true,
  },
  seed: 4,
  steps: 3,
  tasks: [{ task: 'parity', weight: 1, levels: [1, 4] }],
  curriculum: { solved: 0.5, focus: 0.5 },
  microBatch: 4,
  depth: { kind: 'fixed', mean: 3, gradient: 2 },
  schedule: { kind: 'warmup-constant', peak: 0.01, warmup: 1 },
  optimizer: { name: 'muon' },
  ema: 0.9,
};

async function steps(device: Device) {
  const trainer = new Trainer(device, config);
  try {
    const results = [];
    while (trainer.step < config.steps) results.push(await trainer.train());
    return results;
  } finally {
    trainer.dispose();
    device.dispose();
  }
}

it('training takes the same steps on the CPU and on the WebGPU of this browser', async () => {
  const cpu = await steps(createCpuDevice());
  const gpu = await steps(await createWebGPUDevice({ gpu: (navigator as { gpu?: GpuLike }).gpu }));
  expect(new Set(cpu.map(({ loss }) => loss)).size).toBe(3);
  cpu.forEach((step, i) => {
    expect(Math.abs(gpu[i]!.loss / step.loss - 1)).toBeLessThan(2e-3);
    expect(Math.abs(gpu[i]!.gradNorm / step.gradNorm - 1)).toBeLessThan(2e-2);
  });
}, 120_000);
