/** What went wrong, as a stable word that a program can switch on. */
export type CheckpointErrorCode =
  // The bytes of one safetensors file.
  | 'truncated'
  | 'header-length'
  | 'header-limit'
  | 'header-encoding'
  | 'header-json'
  | 'duplicate-name'
  | 'bad-name'
  | 'bad-metadata'
  | 'bad-entry'
  | 'unknown-field'
  | 'unknown-dtype'
  | 'bad-shape'
  | 'shape-overflow'
  | 'size-mismatch'
  | 'bad-offsets'
  | 'out-of-range'
  | 'overlap'
  | 'gap'
  | 'trailing-bytes'
  // A checkpoint of one or more files.
  | 'missing-file'
  | 'ambiguous-weights'
  | 'bad-index'
  | 'bad-file-name'
  | 'missing-tensor'
  | 'unlisted-tensor'
  | 'total-size'
  | 'several-problems'
  // Where the bytes come from, and where they go.
  | 'read-failed'
  | 'write-failed'
  | 'exists'
  | 'closed'
  | 'aborted'
  | 'http-status'
  | 'http-range'
  | 'http-body'
  | 'http-changed'
  | 'gated'
  | 'stalled'
  | 'wrong-hash'
  | 'disk-full'
  // What was asked for.
  | 'bad-argument'
  | 'unknown-option'
  | 'unsupported-dtype'
  | 'unsafe-number';

export interface CheckpointErrorDetails {
  readonly file?: string | undefined;
  readonly tensor?: string | undefined;
  /** The HTTP status, where a server answered. */
  readonly status?: number | undefined;
  readonly problems?: readonly CheckpointError[] | undefined;
  readonly cause?: unknown;
}

const MARKER = Symbol.for('unroll.checkpoint.CheckpointError');
const FORMAT_MARKER = Symbol.for('unroll.checkpoint.SafetensorsFormatError');

/** Every error this package throws on purpose. `code` says what happened; `file` and `tensor` say where. */
export class CheckpointError extends Error {
  override name = 'CheckpointError';
  readonly code: CheckpointErrorCode;
  readonly file: string | undefined;
  readonly tensor: string | undefined;
  readonly status: number | undefined;
  /** With code `several-problems`: each problem as an error of its own. Empty otherwise. */
  readonly problems: readonly CheckpointError[];

  constructor(code: CheckpointErrorCode, message: string, details: CheckpointErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    Object.defineProperty(this, MARKER, { value: true });
    this.code = code;
    this.file = details.file;
    this.tensor = details.tensor;
    this.status = details.status;
    this.problems = details.problems ?? [];
  }

  /** `instanceof` that also holds for an error of another copy of this package. */
  static is(value: unknown): value is CheckpointError {
    return typeof value === 'object' && value !== null && MARKER in value;
  }
}

/** The bytes are not a safetensors file that is safe to load. Thrown before any tensor is allocated. */
export class SafetensorsFormatError extends CheckpointError {
  override name = 'SafetensorsFormatError';

  constructor(code: CheckpointErrorCode, message: string, details: CheckpointErrorDetails = {}) {
    super(code, message, details);
    Object.defineProperty(this, FORMAT_MARKER, { value: true });
  }

  static override is(value: unknown): value is SafetensorsFormatError {
    return typeof value === 'object' && value !== null && FORMAT_MARKER in value;
  }
}

const SHOWN_CHARACTERS = 120;

/** Text from a file, quoted for a message: control characters escaped (they could drive a terminal), length cut. */
export function quote(text: string): string {
  const cut = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
  return JSON.stringify(cut).replace(/[\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** A list for a message: the first few, then how many more. */
export function listed(items: readonly string[], shown = 8): string {
  const rest = items.length - shown;
  return rest > 0 ? `${items.slice(0, shown).join(', ')} and ${rest} more` : items.join(', ');
}

/** Throws one error for all of `problems`; the one itself when it is alone. */
export function throwTogether(who: string, file: string, problems: readonly CheckpointError[]): void {
  const [first] = problems;
  if (first === undefined) return;
  if (problems.length === 1) throw first;
  const shown = problems.slice(0, 20).map((problem) => `  - ${problem.message}`);
  if (problems.length > shown.length) shown.push(`  - and ${problems.length - shown.length} more`);
  throw new CheckpointError('several-problems', `${who}: ${problems.length} problems in ${quote(file)}:\n${shown.join('\n')}`, {
    file,
    problems,
  });
}

export function checkOptions(who: string, options: object, allowed: readonly string[]): void {
  const unknown = Object.keys(options).filter((key) => !allowed.includes(key));
  if (unknown.length === 0) return;
  throw new CheckpointError(
    'unknown-option',
    `${who}: unknown option ${unknown.map(quote).join(', ')}; expected one of ${allowed.map(quote).join(', ')}.`,
  );
}

/** A file system, network or stream error as one of ours; ours pass through unchanged. */
export function asCheckpointError(
  error: unknown,
  code: CheckpointErrorCode,
  message: string,
  details: CheckpointErrorDetails = {},
): CheckpointError {
  if (CheckpointError.is(error)) return error;
  const why = error instanceof Error ? error.message : String(error);
  return new CheckpointError(code, `${message}: ${why}`, { ...details, cause: error });
}
