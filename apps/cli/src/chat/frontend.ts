import type { Key } from 'node:readline';
import type { Io } from '../io.js';
import { styleFor, table, wrap } from '../style.js';
import { HELP } from './commands.js';

/** Ctrl-C at the prompt. */
export const INTERRUPT = Symbol('interrupt');

/** How a conversation meets a person, or a pipe. */
export interface Frontend {
  start(title: string, remark: string): void;
  /** The next line; undefined at the end of the input. */
  read(): Promise<string | undefined | typeof INTERRUPT>;
  reply(pieces: AsyncIterable<string>): Promise<void>;
  info(text: string): void;
  help(): void;
  error(line: string): void;
  end(): void;
}

/** Lines in, replies out, one a line; everything else goes to stderr. */
export function plainFrontend(io: Io): Frontend {
  const lines = io.stdin.lines()[Symbol.asyncIterator]();
  const remark = (text: string): void => io.stderr.write(`${text}\n`);
  return {
    start: (_, text) => remark(text),
    async read() {
      const next = await lines.next();
      return next.done === true ? undefined : next.value;
    },
    async reply(pieces) {
      for await (const piece of pieces) io.stdout.write(piece);
      io.stdout.write('\n');
    },
    info: remark,
    help: () => io.stderr.write(table(HELP, { left: [0, 1] })),
    error: (line) => io.stderr.write(`${styleFor(io, io.stderr).red('error')} ${line}\n`),
    end: () => undefined,
  };
}

/** A conversation on a terminal, drawn with `@clack/prompts`. */
export async function terminalFrontend(io: Io, terminal: NonNullable<Io['terminal']>): Promise<Frontend> {
  const clack = await import('@clack/prompts');
  const { input, output } = terminal;
  const bar = clack.S_BAR;
  const style = styleFor(io);
  const fit = (text: string): string => wrap(text, io.stdout.columns - 4);
  const aside = (text: string): void => clack.log.info(fit(text), { output });
  return {
    start(title, remark) {
      clack.intro(title, { output });
      aside(remark);
    },
    async read() {
      // On Ctrl-D in an empty line the line reader below the prompt closes, of which the prompt learns nothing: it would wait for ever.
      const ended = new AbortController();
      const end = (): void => ended.abort();
      const key = (_: unknown, { ctrl, name }: Key = {}): void => {
        if (ctrl === true && name === 'd') setImmediate(() => input.isPaused() && end());
      };
      input.on('keypress', key);
      input.on('end', end);
      try {
        const prompt = { message: 'You', placeholder: '/help lists the commands', input, output, signal: ended.signal };
        const line = await clack.text(prompt);
        if (ended.signal.aborted) return undefined;
        return clack.isCancel(line) ? INTERRUPT : (line ?? '');
      } finally {
        input.off('keypress', key);
        input.off('end', end);
      }
    },
    async reply(pieces) {
      let begun = false;
      const begin = (): void => {
        if (!begun) io.stdout.write(`${style.dim(bar)}\n${style.green(clack.S_STEP_SUBMIT)}  `);
        begun = true;
      };
      for await (const piece of pieces) {
        begin();
        io.stdout.write(piece.replaceAll('\n', `\n${style.dim(bar)}  `));
      }
      begin();
      io.stdout.write('\n');
    },
    info: aside,
    help: () => clack.note(table(HELP, { left: [0, 1], indent: '' }).trimEnd(), 'Commands', { output }),
    error: (line) => clack.log.error(fit(line), { output }),
    end: () => clack.outro('Goodbye', { output }),
  };
}
