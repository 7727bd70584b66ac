import { fstatSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { CommandError, EXIT } from './errors.js';
import type { Io, Output } from './io.js';

const SHOW_CURSOR = '\u001b[?25h';

function output(stream: NodeJS.WriteStream): Output {
  // The reader of a pipe may leave early (`| head`): that ends the work, and is no error.
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok);
    throw error;
  });
  return {
    write: (text) => void stream.write(text),
    get isTTY() {
      return stream.isTTY === true;
    },
    get columns() {
      return stream.columns ?? 80;
    },
  };
}

/** The real process as an Io. Call once: it installs the handlers of Ctrl-C and of broken pipes. */
export function processIo(): Io {
  const handlers: (() => void)[] = [];
  const stderr = output(process.stderr);
  process.on('SIGINT', () => {
    const handler = handlers[handlers.length - 1];
    if (handler !== undefined) return handler();
    if (stderr.isTTY) stderr.write(`${SHOW_CURSOR}\n`);
    process.exit(EXIT.interrupted);
  });
  return {
    stdout: output(process.stdout),
    stderr,
    stdin: {
      get isTTY() {
        return process.stdin.isTTY === true;
      },
      async readAll() {
        // Node reads a directory as an empty stream.
        const isDirectory = fstatSync(0).isDirectory();
        // Node's `realpathSync` looks at the mode that the last `stat` left behind: after that of a pipe it stops resolving links, and a
        // package that is imported later through a link is loaded a second time.
        statSync('.');
        if (isDirectory) throw new CommandError('standard input is a directory; give a file or a pipe');
        const chunks: Buffer[] = [];
        try {
          for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
        } catch (error) {
          throw new CommandError(`standard input cannot be read: ${(error as Error).message}`);
        }
        return Buffer.concat(chunks).toString('utf8');
      },
      lines: () => createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY, terminal: false }),
    },
    terminal: { input: process.stdin, output: process.stdout },
    program: process.argv[1],
    env: process.env,
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
    onInterrupt(handler) {
      handlers.push(handler);
      return () => {
        const at = handlers.lastIndexOf(handler);
        if (at >= 0) handlers.splice(at, 1);
      };
    },
  };
}
