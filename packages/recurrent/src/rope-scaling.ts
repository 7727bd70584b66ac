import type { Fields } from './config-fields.js';

/**
 * How Llama 3 stretches its rotary frequencies beyond the context that they were first trained at: wavelengths longer than
 * originalContext / lowFrequencyFactor grow by `factor`, those shorter than originalContext / highFrequencyFactor stay, between them
 * the two are blended.
 */
export interface RopeScaling {
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalContext: number;
}

/** `rope_scaling` of a configuration; nothing where it is absent or null. */
export function ropeScalingOf(fields: Fields): { readonly ropeScaling?: RopeScaling } {
  const scaling = fields.nested('rope_scaling');
  if (scaling === undefined) return {};
  scaling.oneOf('rope_type', ['llama3']);
  scaling.oneOf('type', ['llama3']);
  const ropeScaling = {
    factor: scaling.positive('factor'),
    lowFrequencyFactor: scaling.positive('low_freq_factor'),
    highFrequencyFactor: scaling.positive('high_freq_factor'),
    originalContext: scaling.positive('original_max_position_embeddings'),
  };
  scaling.check(
    ropeScaling.lowFrequencyFactor < ropeScaling.highFrequencyFactor,
    `"low_freq_factor" must be below "high_freq_factor"; got ${ropeScaling.lowFrequencyFactor} and ${ropeScaling.highFrequencyFactor}`,
  );
  const unknown = scaling.rest();
  scaling.check(unknown.length === 0, `unknown field ${unknown.map((name) => `"${name}"`).join(', ')}`);
  fields.problems.push(...scaling.problems.map((problem) => `"rope_scaling": ${problem}`));
  return { ropeScaling };
}

/** The frequency (radians a position) that a scaling makes of another, in f32 throughout as the models were run. */
export function scaledFrequency(
  { factor, lowFrequencyFactor, highFrequencyFactor, originalContext }: RopeScaling,
  frequency: number,
): number {
  const f = Math.fround;
  const wavelength = f((2 * Math.PI) / frequency);
  if (wavelength < f(originalContext / highFrequencyFactor)) return frequency;
  const slow = f(frequency / factor);
  if (wavelength > f(originalContext / lowFrequencyFactor)) return slow;
  const share = f(f(f(originalContext / wavelength) - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor));
  return f(f(f(1 - share) * slow) + f(share * frequency));
}
