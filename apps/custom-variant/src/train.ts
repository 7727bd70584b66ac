import type { Device } from '@unroll/tensor';
import { type StepResult, Trainer } from '@unroll/train';
import { recipeOf, type VariantName, variants } from './recipes.js';

export interface RunOptions {
  readonly steps: number;
  readonly seed: number;
}

// #region train
/** An untrained run of a variant. The caller disposes it, and with it the model. */
export function trainerOf(device: Device, name: VariantName, run: RunOptions): Trainer {
  const { family, objective } = variants[name];
  return new Trainer(device, recipeOf(name, run), { family, objective });
}

/** Trains a variant to the end of its run. */
export async function trainVariant(
  device: Device,
  name: VariantName,
  run: RunOptions,
  onStep: (result: StepResult) => void = () => {},
): Promise<Trainer> {
  const trainer = trainerOf(device, name, run);
  try {
    while (trainer.step < run.steps) onStep(await trainer.train());
    return trainer;
  } catch (error) {
    trainer.dispose();
    throw error;
  }
}
// #endregion train
