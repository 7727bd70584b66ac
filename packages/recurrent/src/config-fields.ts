import { UnrollError } from '@unroll/tensor';

/** A field of a model's configuration that is missing, unknown, or has a value that this package does not implement. */
export class ConfigError extends UnrollError {}

// The file may come from anyone: without limits a few digits in it cost gigabytes or minutes before the first tensor is looked at.
// All are far beyond known models (8 layers, 4096 positions, width 5280, vocabulary 65536); a context costs a row of the rotary table for each position.
export const mostLayers = 4096;
export const mostContext = 262144;
export const mostWidth = 2 ** 24;
export const mostRecurrences = 65536;

/** Reads fields of one JSON object, gathering every problem before any is thrown. */
export class Fields {
  readonly problems: string[] = [];
  readonly #seen = new Set<string>();

  constructor(readonly json: Readonly<Record<string, unknown>>) {}

  /** The value that all given names agree on. */
  take(names: readonly string[], what: string, valid: (value: unknown) => boolean, fallback?: unknown): unknown {
    for (const name of names) this.#seen.add(name);
    const present = names.filter((name) => this.json[name] !== undefined);
    if (present.length === 0) {
      if (fallback === undefined) this.problems.push(`${names.map((name) => `"${name}"`).join(' or ')} is missing; it must be ${what}`);
      return fallback;
    }
    const value = this.json[present[0]!];
    const other = present.find((name) => this.json[name] !== value);
    if (other !== undefined) {
      this.problems.push(
        `"${present[0]}" is ${JSON.stringify(value)} and "${other}" is ${JSON.stringify(this.json[other])}; they must be equal`,
      );
    }
    if (!valid(value)) this.problems.push(`"${present[0]}" must be ${what}; got ${JSON.stringify(value)}`);
    return value;
  }

  count(names: readonly string[], least: number, most: number, fallback?: number): number {
    const valid = (value: unknown) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
    return this.take(names, `a whole number from ${least} to ${most}`, valid, fallback) as number;
  }

  positive(name: string, fallback?: number): number {
    return this.take(
      [name],
      'a number above 0',
      (value) => typeof value === 'number' && Number.isFinite(value) && value > 0,
      fallback,
    ) as number;
  }

  flag(names: readonly string[], fallback?: boolean): boolean {
    return this.take(names, 'true or false', (value) => typeof value === 'boolean', fallback) as boolean;
  }

  /** A number from 0, such as a deviation. */
  amount(name: string, fallback: number): number {
    return this.take(
      [name],
      'a number from 0',
      (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0,
      fallback,
    ) as number;
  }

  /** The fields of an object that may be absent or null, or undefined. */
  nested(name: string): Fields | undefined {
    const value = this.take([name], 'an object', (value) => value === null || (typeof value === 'object' && !Array.isArray(value)), null);
    return value === null || typeof value !== 'object' ? undefined : new Fields(value as Record<string, unknown>);
  }

  check(condition: boolean, problem: string): void {
    if (!condition) this.problems.push(problem);
  }

  /** Width, heads and head size belong together. What one of them that is missing would make wrong as well is not reported. */
  checkHeads(widthName: string, width: number, heads: number, kvHeads: number, headSize: number): void {
    const size = width / heads;
    if (Number.isFinite(size)) {
      this.check(width % heads === 0, `"${widthName}" ${width} must be a multiple of the ${heads} heads`);
      this.check(headSize === size, `"head_dim" must be ${widthName} / heads = ${size}; got ${headSize}`);
      this.check(size % 2 === 0, `rotary positions turn pairs: the head size ${size} must be even`);
    }
    if (Number.isFinite(heads / kvHeads))
      this.check(heads % kvHeads === 0, `${heads} heads must be a multiple of "num_key_value_heads" ${kvHeads}`);
  }

  /** A field that may be absent and otherwise has one of these values: others change the computation in a way that is not implemented. */
  oneOf(name: string, values: readonly unknown[]): void {
    this.#seen.add(name);
    const value = this.json[name];
    if (value === undefined || values.includes(value)) return;
    const known = values.map((one) => JSON.stringify(one)).join(', ');
    this.problems.push(`"${name}" ${JSON.stringify(value)} is not implemented; only ${known} is`);
  }

  /** Fields that nothing here depends on. */
  pass(names: Iterable<string>): void {
    for (const name of names) this.#seen.add(name);
  }

  rest(): string[] {
    return Object.keys(this.json).filter((name) => !this.#seen.has(name));
  }
}
