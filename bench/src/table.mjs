import { groups } from './groups/index.mjs';

const number = (value) => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));
const spread = ({ median, min, max }) => `${number(median)} (${number(min)} to ${number(max)})`;

/** Whether other work can have changed what a run measured. */
export const wasBusy = (run) => run.busiest > 0.15 && groups[run.group].timed !== false;

export const rowsOf = (run, what) => run.rows.filter((row) => row.what === what);
const whats = (run) => [...new Set(run.rows.filter(({ kind }) => kind !== 'limit').map(({ what }) => what))];

/** The limit of the machine that a row is measured by: the one of the run, in the unit of the row. */
export function limitFor(run, row) {
  const names = groups[run.group].limitOf?.(row) ?? [];
  const found = run.rows.filter(({ kind, what }) => kind === 'limit' && names.includes(what));
  if (found.length === 0) return undefined;
  const best = found.reduce((a, b) => (b.median > a.median ? b : a));
  // A stream in GB/s feeds a quarter as many f32 weights; an operation limit counts two for a weight.
  if (row.unit === 'G weights/s') return { name: best.what, value: best.median / (best.what === 'stream' ? 4 : 2) };
  return { name: best.what, value: best.median };
}

/** Unroll's figure over a row's, for weights of the same width. */
export function ratioTo(run, row) {
  if (row.peer === 'unroll') return undefined;
  const kind = row.kind === 'dynq8' ? 'q8' : row.kind;
  const ours = run.rows.find((one) => one.peer === 'unroll' && one.what === row.what && one.kind === kind);
  return ours === undefined ? undefined : ours.median / row.median;
}

/** Whether the f32 decoders of a run chose the same tokens; a line for each way of choosing. */
function agreement(run) {
  const groupsByTokens = new Map();
  for (const { peer, kind, tokens } of run.rows) {
    if (kind !== 'f32' || !Array.isArray(tokens)) continue;
    const key = tokens.join(' ');
    groupsByTokens.set(key, [...(groupsByTokens.get(key) ?? []), peer]);
  }
  if (groupsByTokens.size === 0) return [];
  const said = [...groupsByTokens].map(([tokens, peers]) => `${peers.join(' = ')}: ${tokens}`);
  return ['', `First f32 tokens: ${said.join('; ')}.`];
}

/** A run as Markdown: what was measured, peer by peer. */
export function runTable(run) {
  const lines = [
    `Node ${run.node}, ${run.threads} thread${run.threads === 1 ? '' : 's'}; ${run.machine}; ${run.date}, ${run.commit ?? 'no commit'}.`,
  ];
  if (wasBusy(run)) lines.push(`**Not to be relied on: up to ${run.busiest} processors were busy with something else.**`);
  lines.push('', '| | peer | weights | median (min to max) | unroll is | share of limit |', '|---|---|---|---|---|---|');
  for (const limit of run.rows.filter(({ kind }) => kind === 'limit')) {
    lines.push(`| limit | machine | | ${spread(limit)} ${limit.unit} | | ${limit.what} |`);
  }
  for (const what of whats(run)) {
    for (const row of rowsOf(run, what)) {
      const ratio = ratioTo(run, row);
      const limit = limitFor(run, row);
      const share = limit === undefined ? '' : `${((100 * row.median) / limit.value).toFixed(0)} % of ${limit.name}`;
      lines.push(
        `| ${what} | ${row.peer} | ${row.kind} | ${spread(row)} ${row.unit} | ${ratio === undefined ? '' : `${ratio.toFixed(2)} x`} | ${share} |`,
      );
    }
  }
  lines.push(...agreement(run));
  for (const { peer, kind, what, reason } of run.absent)
    lines.push('', `Not run: ${[peer, kind, what].filter(Boolean).join(', ')}: ${reason}.`);
  return lines.join('\n');
}
