import { OptionError } from '@unroll/tensor';
import type { RecurrentConfig } from './config.js';
import { type ModelFamily, sandwich } from './family.js';

function ownName(family: ModelFamily, name: string): string {
  if (!/^\w+\.(weight|bias)$/.test(name))
    throw new OptionError(`family "${family.name}": ownShapes names "${name}"; write NAME.weight or NAME.bias`);
  return `transformer.own.${name}`;
}

/** Whether a parameter is kept in the dtype of the weights: matrices are, but for one of a single row (an exit gate), which is a vector. */
export const isMatrix = (shape: readonly number[]): boolean => shape.length === 2 && shape[0]! > 1;

/** Name and shape of every parameter of a model, in the order of the computation. */
export function parameterShapes(config: RecurrentConfig, family: ModelFamily = sandwich): Map<string, readonly number[]> {
  const { width: C, vocabularySize: V } = config;
  const shapes = new Map<string, readonly number[]>([['transformer.wte.weight', [V, C]]]);
  const blocks = (part: string, count: number) => {
    for (let n = 0; n < count; n++) {
      for (const [name, shape] of Object.entries(family.blockShapes(config))) shapes.set(`transformer.${part}.${n}.${name}`, shape);
    }
  };
  blocks('prelude', config.preludeLayers);
  if (family.hasAdapter) shapes.set('transformer.adapter.weight', [C, 2 * C]);
  for (const [name, shape] of Object.entries(family.ownShapes?.(config) ?? {})) shapes.set(ownName(family, name), shape);
  blocks('core_block', config.coreLayers);
  blocks('coda', config.codaLayers);
  shapes.set('transformer.ln_f.weight', [C]);
  if (family.hasExitGate) {
    shapes.set('transformer.exit_gate.weight', [1, C]);
    shapes.set('transformer.exit_gate.bias', [1]);
  }
  if (!config.tiedHead) shapes.set('lm_head.weight', [V, C]);
  return shapes;
}
