import type { TrainingDepth } from '@unroll/recurrent';
import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { Random } from './random.js';

export const depthKinds = ['lognormal-poisson', 'poisson', 'geometric', 'uniform', 'fixed'] as const;

/** How many recurrences a step has. */
export interface DepthConfig {
  /**
   * Around the mean: `lognormal-poisson` as the paper (r - 1 Poisson of a log-normal rate), `poisson` without the heavy tail, `geometric`,
   * `uniform` from 1 to 2 mean - 1; or always the mean: `fixed`.
   */
  readonly kind: (typeof depthKinds)[number];
  readonly mean: number;
  /** Most recurrences with gradient, the last ones. */
  readonly gradient: number;
  /** Standard deviation of the log of the rate, of `lognormal-poisson`; 1/2 when absent. */
  readonly sigma?: number;
  /** Most recurrences of a step, so that a rare draw cannot stall a run; four times the mean when absent. */
  readonly limit?: number;
  /** The mean grows from 1 over this many steps: linearly, or fast at first (1 - sqrt(1 - u)). */
  readonly curriculum?: { readonly steps: number; readonly shape: 'linear' | 'sqrt' };
}

/** Throws OptionError for unknown fields and values that do not fit. */
export function checkDepth(config: DepthConfig): void {
  refuseUnknownOptions('depth', config, ['kind', 'mean', 'gradient', 'sigma', 'limit', 'curriculum']);
  const { kind, mean, gradient, sigma = 0.5, limit = 4 * mean, curriculum } = config;
  if (!depthKinds.includes(kind)) throw new OptionError(`depth: kind must be one of ${depthKinds.join(', ')}; got ${kind}`);
  if (!(mean >= 1 && mean <= 65536)) throw new OptionError(`depth: mean must be from 1 to 65536; got ${mean}`);
  if (kind === 'fixed' && !Number.isInteger(mean)) throw new OptionError(`depth: a fixed depth must be a whole number; got ${mean}`);
  if (!Number.isInteger(gradient) || gradient < 1) throw new OptionError(`depth: gradient must be a whole number from 1; got ${gradient}`);
  if (!(sigma >= 0 && sigma <= 4)) throw new OptionError(`depth: sigma must be from 0 to 4; got ${sigma}`);
  if (!(limit >= mean && limit <= 65536)) throw new OptionError(`depth: limit must be from the mean ${mean} to 65536; got ${limit}`);
  if (curriculum === undefined) return;
  refuseUnknownOptions('depth.curriculum', curriculum, ['steps', 'shape']);
  if (!Number.isInteger(curriculum.steps) || curriculum.steps < 1)
    throw new OptionError(`depth.curriculum: steps must be a whole number from 1; got ${curriculum.steps}`);
  if (curriculum.shape !== 'linear' && curriculum.shape !== 'sqrt')
    throw new OptionError(`depth.curriculum: shape must be linear or sqrt; got ${curriculum.shape}`);
}

function meanAt({ mean, curriculum }: DepthConfig, step: number): number {
  if (curriculum === undefined || step >= curriculum.steps) return mean;
  const u = step / curriculum.steps;
  return Math.max(1, Math.ceil(mean * (curriculum.shape === 'linear' ? u : 1 - Math.sqrt(1 - u))));
}

function draw({ kind, sigma = 0.5 }: DepthConfig, mean: number, random: Random): number {
  switch (kind) {
    case 'lognormal-poisson':
      return 1 + random.poisson(Math.exp(Math.log(mean) - sigma ** 2 / 2 + sigma * random.normal()));
    case 'poisson':
      return 1 + random.poisson(mean - 1);
    case 'geometric':
      return mean === 1 ? 1 : 1 + Math.floor(Math.log(1 - random.next()) / Math.log(1 - 1 / mean));
    case 'uniform':
      return random.int(1, Math.round(2 * mean - 1));
    case 'fixed':
      return mean;
  }
}

/**
 * Recurrences of a step, counted from 1: k = min(gradient, r) with gradient, n = r - k before them without. A function of seed and step
 * alone: never of the data. As in the paper, the mean of `lognormal-poisson` is mean + 1 (arXiv 2502.05171, section 3.3).
 */
export function depthAt(config: DepthConfig, seed: number, step: number): TrainingDepth {
  const r = Math.min(Math.floor(config.limit ?? 4 * config.mean), draw(config, meanAt(config, step), new Random(seed, 'depth', step)));
  const k = Math.min(config.gradient, r);
  return { n: r - k, k };
}
