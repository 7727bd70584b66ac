import { type Device, UnrollError } from '@unroll/tensor';
import { type ParseConfigOptions, parseRecurrentConfig } from './config.js';
import { familyOf } from './family.js';
import { owningModel, type RecurrentModel } from './model.js';
import { type LoadParamsOptions, loadParams, type TensorSource } from './params.js';

export interface LoadModelOptions extends LoadParamsOptions, ParseConfigOptions {
  readonly device: Device;
  /** The parsed `config.json`. */
  readonly config: unknown;
  /** The checkpoint's tensors. */
  readonly weights: TensorSource;
}

/**
 * A model from a checkpoint in the public layout of Huginn, of a retrofit, or of Ouro; the family is told by the tensors' names,
 * unless it is given, as that of a variant must be. Throws ConfigError or
 * ParamsError, with nothing left on the device.
 */
export async function loadRecurrentModel(options: LoadModelOptions): Promise<RecurrentModel> {
  const { device, weights } = options;
  if (device === undefined || weights === undefined) throw new UnrollError('loadRecurrentModel: needs device, config and weights');
  const family = options.family ?? familyOf(weights.entries.keys());
  const config = { ...family.defaults, ...parseRecurrentConfig(options.config, options) };
  return owningModel(device, config, await loadParams(device, config, weights, { ...options, family }), family.parts);
}
