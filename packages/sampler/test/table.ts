import { readFileSync, writeFileSync } from 'node:fs';

/** The cells of a table of what goes with what, as they turn out; refusals become notes below it. */
export class Table {
  readonly #cells = new Map<string, string>();
  readonly #notes: string[] = [];

  constructor(
    readonly rows: readonly string[],
    readonly columns: readonly string[],
  ) {}

  set(row: string, column: string, refusal: string | undefined): void {
    if (refusal !== undefined && !this.#notes.includes(refusal)) this.#notes.push(refusal);
    this.#cells.set(`${row}|${column}`, refusal ?? '');
  }

  /** In Markdown. Notes are numbered in the order of the table, whatever the order of the runs. */
  toString(): string {
    const notes: string[] = [];
    const cell = (row: string, column: string) => {
      const refusal = this.#cells.get(`${row}|${column}`);
      if (refusal === undefined) return '';
      if (refusal === '') return 'yes';
      if (!notes.includes(refusal)) notes.push(refusal);
      return `no (${notes.indexOf(refusal) + 1})`;
    };
    const lines = [
      `| | ${this.columns.join(' | ')} |`,
      `|---${'|---'.repeat(this.columns.length)}|`,
      ...this.rows.map((row) => `| ${row} | ${this.columns.map((column) => cell(row, column)).join(' | ')} |`),
    ];
    return [...lines, ...(notes.length === 0 ? [] : ['']), ...notes.map((note, i) => `${i + 1}. ${note}`)].join('\n');
  }
}

const readme = new URL('../README.md', import.meta.url);
const [begin, end] = ['<!-- table: what goes with what -->\n', '<!-- /table -->'];

/** The README's tables. With UPDATE_TABLES=1 in the environment they are written first. */
export function readmeTables(generated: string): string {
  const text = readFileSync(readme, 'utf8');
  const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)];
  if (process.env['UPDATE_TABLES'] !== '1') return text.slice(from, to).trim();
  writeFileSync(readme, `${text.slice(0, from)}\n${generated}\n\n${text.slice(to)}`);
  return generated;
}
