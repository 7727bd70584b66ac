import { DEEPEST, didYouMean } from '../args.js';
import { UsageError } from '../errors.js';
import type { ChatSession } from './session.js';

export const HELP: readonly (readonly [string, string])[] = [
  ['/depth N', 'recurrences per token from here on'],
  ['/seed N', 'seed of the initial state and of sampling'],
  ['/system TEXT', 'set the system prompt; without a text, take it away'],
  ['/clear', 'forget the conversation'],
  ['/save FILE', 'write the conversation as JSON'],
  ['/help', 'this list'],
  ['/exit', 'leave (so does the end of the input)'],
];

const names = HELP.map(([usage]) => usage.split(' ')[0]!);

function wholeArgument(command: string, text: string, least: number, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= least && number <= most)) throw new UsageError(`${command} needs a whole number from ${least} to ${most}; got "${text}"`);
  return number;
}

export type Outcome = { readonly text: string } | 'help' | 'exit';

/** Carries out a line that begins with a slash. Throws UsageError or CommandError and leaves the session as it is. */
export async function runChatCommand(session: ChatSession, line: string): Promise<Outcome> {
  const [, name = '', argument = ''] = /^(\/\S*)\s*([\s\S]*)$/.exec(line) ?? [];
  const rest = argument.trim();
  switch (name) {
    case '/depth':
      session.depth = wholeArgument(name, rest, 1, DEEPEST);
      return { text: `depth ${session.depth}` };
    case '/seed':
      session.seed = wholeArgument(name, rest, 0, Number.MAX_SAFE_INTEGER);
      return { text: `seed ${session.seed}` };
    case '/system':
      session.system = rest === '' ? undefined : rest;
      return { text: rest === '' ? 'no system prompt' : 'system prompt set' };
    case '/clear':
      session.clear();
      return { text: 'the conversation is forgotten' };
    case '/save':
      if (rest === '') throw new UsageError('/save needs the name of a file');
      await session.save(rest);
      return { text: `saved to ${rest}` };
    case '/help':
      return 'help';
    case '/exit':
    case '/quit':
      return 'exit';
    default:
      throw new UsageError(`unknown command ${name}${didYouMean(name, names)}; /help lists the commands`);
  }
}
