// #region steps
import { createCpuDevice } from '@unroll/tensor/cpu';
import { lossByDepth, parseTrainingConfig, Trainer } from '@unroll/train';

const config = parseTrainingConfig({
  model: {
    n_embd: 16,
    num_attention_heads: 2,
    intermediate_size: 32,
    vocab_size: 24,
    block_size: 64,
    norm_eps: 1e-6,
    tie_embeddings: true,
    qk_bias: true,
    n_layers_in_prelude: 1,
    n_layers_in_recurrent_block: 1,
    n_layers_in_coda: 1,
    mean_recurrence: 2,
    mean_backprop_depth: 2,
  },
  seed: 1,
  steps: 3,
  tasks: [{ task: 'addition', weight: 1, levels: [1, 2] }],
  microBatch: 8,
  depth: { kind: 'lognormal-poisson', mean: 2, gradient: 2, limit: 8 },
  schedule: { kind: 'warmup-constant', peak: 0.003, warmup: 1 },
  optimizer: { name: 'adamw' },
  clip: 1,
});
const device = createCpuDevice();
const trainer = new Trainer(device, config);
while (trainer.step < config.steps) console.log(await trainer.train());
console.log(await lossByDepth(trainer.model, trainer.validation(8), [1, 2, 4]));
trainer.dispose();
device.dispose();
// #endregion steps
