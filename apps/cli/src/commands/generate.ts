import { type GeneratedToken, type GenerateOptions, generate } from '@unroll/sampler';
import { type Flags, readFlag, readText } from '../args.js';
import type { Command } from '../command.js';
import { EXIT, UsageError } from '../errors.js';
import { modelArgs, samplingArgs, stateArgs, strategyArgs } from '../flags.js';
import { interruptible } from '../interrupt.js';
import type { Io } from '../io.js';
import { type LoadedModel, loadModel, modelChoice } from '../model/load.js';
import { samplingOptions } from '../sampling.js';
import { reportLine, strategyOptions } from '../strategy.js';
import { styleFor } from '../style.js';

export const command: Command = {
  name: 'generate',
  description: 'continue a text',
  args: {
    prompt: { type: 'positional', description: 'the text to continue; read from standard input when absent' },
    tokens: { type: 'string', valueHint: 'IDS', description: 'the prompt as token ids with commas, for a model without a tokenizer' },
    ...modelArgs,
    ...samplingArgs,
    ...strategyArgs,
    ...stateArgs,
    alternatives: { type: 'string', valueHint: 'N', description: 'with --json, the N most likely tokens beside each chosen one' },
    report: {
      type: 'boolean',
      description: 'one line on stderr at the end: recurrences, core passes, accepted drafts, bytes of keys and values',
    },
    json: {
      type: 'boolean',
      description: 'one JSON object a line and token: token, text, logprob, recurrences; finish and report on the last',
    },
  },
  notes: ['One line end at the end of standard input is not part of the prompt.'],
  examples: [
    'unroll generate "731+094="',
    'echo "731+094=" | unroll generate --depth 1',
    'unroll generate "2+2=" --temperature 0.8 --seed 7 --json',
    'unroll generate "731+094=" --depth 16 --exit kl:5e-4 --report',
    'unroll generate "731+094=" --speculative 2,4 --report',
  ],
  run,
};

function parseTokens(text: string): number[] {
  const parts = text.split(/[\s,]+/).filter((part) => part !== '');
  const bad = parts.find((part) => !/^\d{1,9}$/.test(part));
  if (bad !== undefined) throw new UsageError(`--tokens must be token ids with commas, such as 15,56,114; got "${bad}"`);
  return parts.map(Number);
}

async function readPrompt(flags: Flags, io: Io): Promise<string | number[]> {
  const tokens = readText(flags, 'tokens');
  const prompt = readText(flags, 'prompt');
  if (tokens !== undefined) {
    if (prompt !== undefined) throw new UsageError('generate: give a prompt or --tokens, not both');
    return parseTokens(tokens);
  }
  if (prompt !== undefined) return prompt;
  if (io.stdin.isTTY)
    throw new UsageError('generate: a prompt is missing; give it in quotes, such as unroll generate "731+094=", or by a pipe');
  return (await io.stdin.readAll()).replace(/\r?\n$/, '');
}

async function run(flags: Flags, io: Io): Promise<number> {
  const sampling = { ...samplingOptions(flags), ...strategyOptions(flags) };
  if (readText(flags, 'alternatives') !== undefined && !readFlag(flags, 'json'))
    throw new UsageError('generate: --alternatives are shown with --json alone; add it, or leave --alternatives out');
  const prompt = await readPrompt(flags, io);
  if (prompt.length === 0) throw new UsageError('generate: the prompt is empty; give at least one character');
  const loaded = await loadModel(modelChoice(flags), io);
  try {
    if (typeof prompt === 'string' && loaded.tokenizer === undefined) {
      throw new UsageError(
        `"${loaded.name}" has no tokenizer.json, so a text prompt cannot be read; give token ids, such as --tokens 15,56,114`,
      );
    }
    const shown = { json: readFlag(flags, 'json'), report: readFlag(flags, 'report') };
    return await interruptible(io, async (signal) => {
      await stream(loaded, { ...sampling, prompt, signal }, shown, io);
      return EXIT.ok;
    });
  } finally {
    await loaded.dispose();
  }
}

/** What the model's files say about length, as far as the context has room for it. */
function defaultLimit(loaded: LoadedModel, prompt: string | readonly number[]): Partial<GenerateOptions> {
  if (loaded.maxNewTokens === undefined) return {};
  const length = typeof prompt === 'string' ? (loaded.tokenizer?.encode(prompt).length ?? 0) : prompt.length;
  const room = loaded.model.contextLength - length;
  return room < 1 ? {} : { maxNewTokens: Math.min(loaded.maxNewTokens, room) };
}

async function stream(
  loaded: LoadedModel,
  options: Omit<GenerateOptions, 'model'>,
  { json, report }: { readonly json: boolean; readonly report: boolean },
  io: Io,
): Promise<void> {
  const { model, tokenizer } = loaded;
  const style = styleFor(io);
  const show = (item: GeneratedToken): string => {
    if (json) return `${JSON.stringify(item)}\n`;
    return tokenizer === undefined ? `${item.token} ` : item.text;
  };
  const all: GenerateOptions = {
    ...defaultLimit(loaded, options.prompt),
    ...options,
    model,
    ...(tokenizer === undefined ? {} : { tokenizer }),
  };
  const run = generate(all);
  if (!json && io.stdout.isTTY && typeof options.prompt === 'string') io.stdout.write(style.dim(options.prompt));
  let last: GeneratedToken | undefined;
  for await (const item of run) {
    last = item;
    io.stdout.write(show(item));
    await io.breathe();
  }
  if (!json) io.stdout.write('\n');
  if (report && last?.report !== undefined) io.stderr.write(`${reportLine(last.report)}\n`);
}
