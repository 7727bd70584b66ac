import { didYouMean, readFlags } from './args.js';
import { commands } from './commands/index.js';
import { describeError, EXIT, UsageError } from './errors.js';
import type { Io } from './io.js';
import { styleFor } from './style.js';
import { version } from './version.js';

const HELP = new Set(['--help', '-h']);

/** Flags before `--` that every command takes, and the rest. */
function takeGlobals(argv: readonly string[]): { debug: boolean; help: boolean; rest: string[] } {
  const end = argv.indexOf('--');
  const isFlag = (i: number) => end < 0 || i < end;
  const rest = argv.filter((arg, i) => !(isFlag(i) && (arg === '--debug' || HELP.has(arg))));
  return { debug: argv.some((arg, i) => isFlag(i) && arg === '--debug'), help: argv.some((arg, i) => isFlag(i) && HELP.has(arg)), rest };
}

async function dispatch(argv: readonly string[], help: boolean, io: Io): Promise<number> {
  // `unroll help COMMAND` is `unroll COMMAND --help`.
  if (argv[0] === 'help' && argv.length > 1) return dispatch(argv.slice(1), true, io);
  const [name, ...rest] = argv;
  if (name === undefined && !help) {
    const { runDemo } = await import('./demo/demo.js');
    return runDemo(io);
  }
  if (name === undefined || name === 'help') {
    const { programUsage } = await import('./usage.js');
    io.stdout.write(programUsage(styleFor(io)));
    return EXIT.ok;
  }
  if (name === '--version' || name === '-v') {
    io.stdout.write(`${version}\n`);
    return EXIT.ok;
  }
  const entry = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (entry === undefined) {
    const kind = name.startsWith('-') ? 'flag' : 'command';
    const near = didYouMean(name, Object.keys(commands), (known) => `"unroll ${known}"`);
    throw new UsageError(
      `unknown ${kind} "${name}"${near}; the commands are ${Object.keys(commands).join(', ')}, and "unroll --help" tells more`,
    );
  }
  const { command } = await entry.load();
  if (help) {
    const { commandUsage } = await import('./usage.js');
    io.stdout.write(commandUsage(command, styleFor(io)));
    return EXIT.ok;
  }
  return command.run(readFlags(name, rest, command.args), io);
}

/** Runs the program on its arguments (without node and script) and gives the exit code. Never throws. */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  const { debug, help, rest } = takeGlobals(argv);
  try {
    return await dispatch(rest, help, io);
  } catch (error) {
    const { line, code } = await describeError(error);
    io.stderr.write(`${styleFor(io, io.stderr).red('error')} ${line}\n`);
    if (debug && error instanceof Error) io.stderr.write(`${error.stack ?? ''}\n`);
    return code;
  }
}
