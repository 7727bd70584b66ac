import { TokenizerOptionError } from './errors';

/** Refuses options by name, so that a misspelt one is not silently ignored. */
export function refuseUnknown(where: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new TokenizerOptionError(`${where}: unknown option "${name}"; known are ${known.join(', ')}`);
  }
}

export function checkBoolean(where: string, name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'boolean') {
    throw new TokenizerOptionError(`${where}: ${name} must be true or false, got ${describe(value)}`);
  }
}

/** A short name of a value for a message. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  return String(value);
}
