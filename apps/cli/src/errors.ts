/** What was typed cannot be done: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** What was asked for failed: exit code 1. */
export class CommandError extends Error {
  override name = 'CommandError';
}

export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

// File names and prompts reach these messages; control characters in them could drive the terminal.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/g;

function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const flat = text.replace(/:\s*\n\s*-?\s*/g, ': ').replace(/\s*\n\s*-?\s*/g, '; ');
  return flat.replace(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Exit code of an error that is thrown on purpose; undefined for a fault of the program. */
async function expectedCode(error: unknown): Promise<number | undefined> {
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof CommandError) return EXIT.failure;
  // Only now, so that a start without errors does not load what its command does not use.
  const [{ OptionError, UnrollError }, { CheckpointError }, { PretrainedError }, tokenizer] = await Promise.all([
    import('@unroll/tensor'),
    import('@unroll/checkpoint'),
    import('@unroll/pretrained'),
    import('@unroll/tokenizer'),
  ]);
  const usage = [OptionError, tokenizer.TokenizerOptionError, tokenizer.UnencodableTextError];
  if (usage.some((type) => error instanceof type)) return EXIT.usage;
  if (UnrollError.is(error) || CheckpointError.is(error) || PretrainedError.is(error) || tokenizer.TokenizerError.is(error))
    return EXIT.failure;
  return undefined;
}

/** An error as one line for stderr, and the exit code that goes with it. */
export async function describeError(error: unknown): Promise<{ line: string; code: number }> {
  const line = oneLine(error);
  const code = await expectedCode(error);
  if (code !== undefined) return { line, code };
  return { line: `unexpected error: ${line}; run again with --debug to see where, and please report it`, code: EXIT.failure };
}
