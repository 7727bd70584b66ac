import { OptionError, refuseUnknownOptions } from '@unroll/tensor';

/** The learning rate by step, counted from 1. All warm up linearly to `peak` over `warmup` steps. */
export type Schedule =
  | { readonly kind: 'warmup-constant'; readonly peak: number; readonly warmup: number }
  | {
      readonly kind: 'warmup-cosine';
      readonly peak: number;
      readonly warmup: number;
      /** Half a cosine from the peak down to `floor` * peak at step `total`. */
      readonly total: number;
      readonly floor?: number;
    }
  | {
      readonly kind: 'warmup-stable-decay';
      readonly peak: number;
      readonly warmup: number;
      readonly total: number;
      /** The last `decay` steps fall linearly to `floor` * peak. */
      readonly decay: number;
      readonly floor?: number;
    };

const fields: Readonly<Record<Schedule['kind'], readonly string[]>> = {
  'warmup-constant': ['kind', 'peak', 'warmup'],
  'warmup-cosine': ['kind', 'peak', 'warmup', 'total', 'floor'],
  'warmup-stable-decay': ['kind', 'peak', 'warmup', 'total', 'decay', 'floor'],
};

/** Throws OptionError unless the schedule's numbers fit together. */
export function checkSchedule(schedule: Schedule): void {
  const known = fields[schedule.kind];
  if (known === undefined) throw new OptionError(`schedule: kind must be one of ${Object.keys(fields).join(', ')}; got ${schedule.kind}`);
  refuseUnknownOptions('schedule', schedule, known);
  const { peak, warmup } = schedule;
  if (!(peak >= 0 && Number.isFinite(peak))) throw new OptionError(`schedule: peak must be a number from 0; got ${peak}`);
  if (!Number.isInteger(warmup) || warmup < 0) throw new OptionError(`schedule: warmup must be a whole number of steps; got ${warmup}`);
  if (schedule.kind === 'warmup-constant') return;
  const { total, floor = 0 } = schedule;
  if (!Number.isInteger(total) || total < warmup)
    throw new OptionError(`schedule: total must be a whole number from warmup ${warmup}; got ${total}`);
  if (!(floor >= 0 && floor <= 1)) throw new OptionError(`schedule: floor must be from 0 to 1; got ${floor}`);
  if (schedule.kind === 'warmup-cosine') return;
  const { decay } = schedule;
  if (!Number.isInteger(decay) || decay < 0 || warmup + decay > total) {
    throw new OptionError(`schedule: decay must be a whole number and fit behind the warmup: ${warmup} + ${decay} is beyond ${total}`);
  }
}

/** The learning rate of a step, counted from 1; after `total` it stays at the floor. */
export function learningRateAt(schedule: Schedule, step: number): number {
  const { peak, warmup } = schedule;
  if (step <= warmup) return (peak * step) / warmup;
  if (schedule.kind === 'warmup-constant') return peak;
  const { total, floor = 0 } = schedule;
  if (schedule.kind === 'warmup-cosine') {
    const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
    return peak * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress)));
  }
  const left = Math.max(0, total - step);
  return left >= schedule.decay ? peak : peak * (floor + ((1 - floor) * left) / schedule.decay);
}
