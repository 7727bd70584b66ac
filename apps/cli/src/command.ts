import type { ArgsDef, Flags } from './args.js';
import type { Io } from './io.js';

/** A command of the program. `run` gives the exit code. */
export interface Command {
  readonly name: string;
  readonly description: string;
  readonly args: ArgsDef;
  /** Lines for the end of `--help`: what to type. */
  readonly examples: readonly string[];
  /** Paragraphs for `--help`. */
  readonly notes?: readonly string[];
  run(flags: Flags, io: Io): Promise<number>;
}
