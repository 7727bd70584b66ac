/** Lets other work go on between two steps: the comparison needs nothing else of the program that it runs in. */
export interface Breather {
  breathe(): Promise<void>;
}

export type Status = 'pass' | 'fail' | 'unsupported';

/** The result of one comparison with the reference. */
export interface Check {
  readonly name: string;
  readonly kind: string;
  readonly status: Status;
  /** Largest absolute error; null where nothing was compared, or where shapes or NaN differ. */
  readonly maxError: number | null;
  /** Time to compute the value, without what it shares with checks before it. */
  readonly ms: number;
  /** A token, depth or count, whose error is no rounding error. */
  readonly exact?: boolean;
  /** Why it failed or is not supported. */
  readonly reason?: string;
}

export interface Tolerance {
  readonly absolute: number;
  readonly relative: number;
}

// Of the fixtures' README, by device.
export const FORWARD_TOLERANCE: Readonly<Record<string, Tolerance>> = {
  cpu: { absolute: 2e-4, relative: 1e-4 },
  webgpu: { absolute: 1e-3, relative: 5e-4 },
};
export const LOSS_TOLERANCE: Readonly<Record<string, Tolerance>> = {
  cpu: { absolute: 0, relative: 1e-4 },
  webgpu: { absolute: 0, relative: 1e-3 },
};
export const EXACT: Tolerance = { absolute: 0, relative: 0 };

export interface Comparison {
  readonly status: 'pass' | 'fail';
  readonly maxError: number | null;
  readonly reason?: string;
}

/** Compares element by element: |actual - expected| <= absolute + relative |expected|; NaN equals NaN, infinities equal themselves. */
export function compare(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: Tolerance): Comparison {
  if (actual.length !== expected.length) {
    return { status: 'fail', maxError: null, reason: `${actual.length} values where ${expected.length} are expected` };
  }
  let maxError = 0;
  let first = -1;
  let unlike = false;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (Object.is(a, e) || a === e) continue;
    const error = Math.abs(a - e);
    const good = error <= tolerance.absolute + tolerance.relative * Math.abs(e) && Number.isFinite(e);
    if (!good && first < 0) first = i;
    if (Number.isFinite(error)) maxError = Math.max(maxError, error);
    else unlike = true;
  }
  if (first < 0) return { status: 'pass', maxError };
  return { status: 'fail', maxError: unlike ? null : maxError, reason: `value ${first} is ${actual[first]}; expected ${expected[first]}` };
}

/** Numbers of a JSON field: one, or a list in which null is NaN. Undefined for anything else. */
export function jsonNumbers(value: unknown): number[] | undefined {
  const list = Array.isArray(value) ? value : [value];
  const numbers = list.map((item) => (item === null ? Number.NaN : item));
  return numbers.every((item): item is number => typeof item === 'number') ? numbers : undefined;
}
