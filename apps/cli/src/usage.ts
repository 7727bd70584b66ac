import type { ArgDef } from './args.js';
import type { Command } from './command.js';
import { commands } from './commands/index.js';
import { type Style, table } from './style.js';

const GLOBAL: readonly (readonly [string, string])[] = [
  ['--debug', 'show where an error came from'],
  ['-h, --help', 'this text'],
];

function flagCell(name: string, def: ArgDef): string {
  const short = def.short === undefined ? '' : `-${def.short}, `;
  return `${short}--${name}${def.type === 'string' ? ` ${def.valueHint ?? 'VALUE'}` : ''}`;
}

const list = (lines: readonly string[]): string => lines.map((line) => `  ${line}\n`).join('');

/** The text of `unroll --help`. */
export function programUsage(style: Style): string {
  const rows = Object.entries(commands).map(([name, { description }]) => [style.cyan(name), description]);
  return [
    `${style.bold('unroll')}: recurrent-depth language models in the terminal\n`,
    `\n${style.bold('Usage')}\n${list(['unroll                     what this is about, in under a minute', 'unroll COMMAND [FLAGS]     one of the commands below'])}`,
    `${list(['In a clone of the repository, "npm start -- COMMAND [FLAGS]" is the same.'])}`,
    `\n${style.bold('Commands')}\n${table(rows, { left: [0, 1] })}`,
    `\n${style.bold('Flags')}\n${table([['-v, --version', 'print the version'], ...GLOBAL], { left: [0, 1] })}`,
    '\n"unroll COMMAND --help" tells more about a command.\n',
  ].join('');
}

/** The text of `unroll COMMAND --help`. */
export function commandUsage(command: Command, style: Style): string {
  const args = Object.entries(command.args);
  const words = args.filter(([, def]) => def.type === 'positional');
  const flags = args
    .filter(([, def]) => def.type !== 'positional')
    .map(([name, def]) => [style.cyan(flagCell(name, def)), def.description]);
  const shown = words.map(([name, def]) => (def.required === true ? name.toUpperCase() : `[${name.toUpperCase()}]`)).join(' ');
  const globals = GLOBAL.map(([flag, description]) => [style.cyan(flag), description]);
  return [
    `${style.bold(`unroll ${command.name}`)}: ${command.description}\n`,
    `\n${style.bold('Usage')}\n${list([`unroll ${command.name}${shown === '' ? '' : ` ${shown}`} [FLAGS]`])}`,
    words.length === 0
      ? ''
      : `\n${table(
          words.map(([name, def]) => [style.cyan(name.toUpperCase()), def.description]),
          { left: [0, 1] },
        )}`,
    `\n${style.bold('Flags')}\n${table([...flags, ...globals], { left: [0, 1] })}`,
    command.notes === undefined ? '' : `\n${command.notes.join('\n')}\n`,
    `\n${style.bold('Examples')}\n${list(command.examples)}`,
  ].join('');
}
