import { type Device, OptionError, refuseUnknownOptions, UnrollError } from '@unroll/tensor';
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

const optionNames = ['device', 'config', 'weights', 'onProgress', 'signal', 'dtype', 'family', 'allowUnknown'];

/**
 * A model from a checkpoint in the public layout of Huginn, of a retrofit, or of Ouro; the family is told by the tensors' names,
 * unless it is given, as that of a variant must be. Throws ConfigError, ParamsError, or OptionError for an option that is unknown and
 * for weights that are not open tensors, with nothing left on the device.
 */
export async function loadRecurrentModel(options: LoadModelOptions): Promise<RecurrentModel> {
  refuseUnknownOptions('loadRecurrentModel', options, optionNames);
  const { device, weights } = options;
  if (device === undefined || weights === undefined) throw new UnrollError('loadRecurrentModel: needs device, config and weights');
  if (typeof weights?.entries?.keys !== 'function' || typeof weights.read !== 'function') {
    const bytes = ArrayBuffer.isView(weights) || (weights as unknown) instanceof ArrayBuffer;
    throw new OptionError(
      `loadRecurrentModel: weights must be the tensors of an opened checkpoint, with entries and read; got ${bytes ? 'bytes' : typeof weights}. Open them: await openSafetensors(bytesSource(bytes)) of @unroll/checkpoint`,
    );
  }
  const family = options.family ?? familyOf(weights.entries.keys());
  const config = { ...family.defaults, ...parseRecurrentConfig(options.config, options) };
  return owningModel(device, config, await loadParams(device, config, weights, { ...options, family }), family.parts);
}
