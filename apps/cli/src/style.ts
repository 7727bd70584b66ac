import type { Io, Output } from './io.js';

type Paint = (text: string) => string;

export interface Style {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly green: Paint;
  readonly red: Paint;
  readonly yellow: Paint;
  readonly cyan: Paint;
}

const ESCAPE = '\u001b';
const plain: Paint = (text) => text;
const code =
  (on: number, off: number): Paint =>
  (text) =>
    `${ESCAPE}[${on}m${text}${ESCAPE}[${off}m`;

const COLOURED: Style = {
  bold: code(1, 22),
  dim: code(2, 22),
  green: code(32, 39),
  red: code(31, 39),
  yellow: code(33, 39),
  cyan: code(36, 39),
};
const PLAIN: Style = { bold: plain, dim: plain, green: plain, red: plain, yellow: plain, cyan: plain };

/** Colours for a stream: on a terminal, unless NO_COLOR (no-color.org) is set; FORCE_COLOR turns them on elsewhere. */
export function styleFor(io: Io, stream: Output = io.stdout): Style {
  const { NO_COLOR, FORCE_COLOR, TERM } = io.env;
  if (NO_COLOR !== undefined && NO_COLOR !== '') return PLAIN;
  if (FORCE_COLOR !== undefined && FORCE_COLOR !== '' && FORCE_COLOR !== '0') return COLOURED;
  return stream.isTTY && TERM !== 'dumb' ? COLOURED : PLAIN;
}

const MARKS = new RegExp(`${ESCAPE}\\[[0-9;]*m`, 'g');
const widthOf = (text: string): number => [...text.replace(MARKS, '')].length;

/** Columns two spaces apart; the first is left-aligned and the others right-aligned unless `left` names them. Rows may be shorter. */
export function table(
  rows: readonly (readonly string[])[],
  options: { readonly indent?: string; readonly left?: readonly number[] } = {},
): string {
  const { indent = '  ', left = [0] } = options;
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, widthOf(cell))));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => {
        const space = ' '.repeat(widths[i]! - widthOf(cell));
        return left.includes(i) ? cell + space : space + cell;
      })
      .join('  ');
  return `${rows.map((row) => (indent + line(row)).trimEnd()).join('\n')}\n`;
}

/** Breaks a text at spaces so that no line is longer than `width`, where its words allow it. */
export function wrap(text: string, width: number): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines[lines.length - 1];
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines.join('\n');
}

const UNITS: readonly (readonly [number, string])[] = [
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];

/** 1234567 -> 1.23 M */
export function short(value: number): string {
  const unit = UNITS.find(([size]) => value >= size);
  return unit === undefined ? String(value) : `${(value / unit[0]).toFixed(2)} ${unit[1]}`;
}

/** 45056 -> 44.0 KiB */
export function bytes(value: number): string {
  for (const [size, unit] of [
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [2 ** 10, 'KiB'],
  ] as const) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${value} B`;
}

export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** 1234567 -> 1,234,567 */
export const grouped = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, ',');

/** 1 file, 2 files */
export const counted = (count: number, name: string, plural = `${name}s`): string => `${grouped(count)} ${count === 1 ? name : plural}`;

/** Three digits that count: 0.000267, 54.1, 21,400 */
export const rounded = (value: number): string => (value < 1000 ? value.toPrecision(3) : grouped(Number(value.toPrecision(3))));
