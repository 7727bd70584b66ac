import { constant, truncatedNormal } from '@unroll/nn';
import { type Device, disposeTree, refuseUnknownOptions, type Tensor } from '@unroll/tensor';
import type { RecurrentConfig } from './config.js';
import { type ModelFamily, sandwich } from './family.js';
import { owningModel, type RecurrentModel } from './model.js';
import { paramsFromNames, type RecurrentParams } from './params.js';
import { parameterShapes } from './shapes.js';

/** What an untrained model is a function of, beside its configuration. */
export interface InitOptions {
  readonly seed: number;
  /** Which parameters there are; those of Huginn when absent. */
  readonly family?: ModelFamily;
}

/**
 * Parameters of an untrained model, as the paper starts (arXiv 2502.05171, section 3.2, after Takase et al. 2023): matrices and embedding
 * truncated normal of variance 2 / (5 C), output projections 1 / (5 C L) with L = prelude + mean recurrence * core + coda layers run,
 * norms 1, biases 0. A function of (config, seed, family) alone.
 */
export function initParams(device: Device, config: RecurrentConfig, options: InitOptions): RecurrentParams {
  refuseUnknownOptions('initParams', options, ['seed', 'family']);
  const C = config.width;
  const L = config.preludeLayers + config.meanRecurrence * config.coreLayers + config.codaLayers;
  const tensors = new Map<string, Tensor>();
  try {
    let index = 0;
    for (const [name, shape] of parameterShapes(config, options.family)) {
      if (name.endsWith('bias')) tensors.set(name, constant(device, shape, 0));
      else if (shape.length === 1) tensors.set(name, constant(device, shape, 1));
      else {
        const output = name.endsWith('.proj.weight');
        tensors.set(
          name,
          truncatedNormal(device, shape, { std: Math.sqrt(output ? 1 / (5 * C * L) : 2 / (5 * C)), seed: options.seed, index }),
        );
      }
      index++;
    }
    return paramsFromNames(tensors);
  } catch (error) {
    disposeTree(tensors);
    throw error;
  }
}

/** An untrained model of a family: `initParams` with its parts, and its numbers where the configuration leaves them open. */
export function initModel(device: Device, config: RecurrentConfig, options: InitOptions): RecurrentModel {
  const { family = sandwich } = options;
  const complete = { ...family.defaults, ...config };
  return owningModel(device, complete, initParams(device, complete, options), family.parts);
}
