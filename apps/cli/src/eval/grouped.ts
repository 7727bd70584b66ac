import { CommandError } from '../errors.js';
import { percent, type Style, table } from '../style.js';
import { accuracyOf, type DepthResult, type Problem } from './evaluate.js';

/** Places of the problems in each group, by what their fields say, in order of appearance. Throws CommandError for a field that a line lacks. */
export function groupsOf(problems: readonly Problem[], by: readonly string[]): Map<string, number[]> {
  const groups = new Map<string, number[]>();
  problems.forEach(({ fields = {}, where = 'a problem' }, i) => {
    const missing = by.find((field) => fields[field] === undefined);
    if (missing !== undefined) throw new CommandError(`--by: ${where} has no field "${missing}"`);
    const name = by.map((field) => String(fields[field])).join(' ');
    groups.set(name, [...(groups.get(name) ?? []), i]);
  });
  return groups;
}

/** Accuracy of each group, and of all, by depth; with `exits` the mean recurrences behind it. */
export function groupedTable(
  problems: readonly Problem[],
  by: readonly string[],
  results: readonly DepthResult[],
  exits: boolean,
  style: Style,
): string {
  const row = (name: string, places: readonly number[]) => [
    name,
    String(places.length),
    ...results.flatMap(({ correct, recurrences }) => [
      percent(accuracyOf(places.map((i) => correct[i]!))),
      ...(exits ? [(places.reduce((sum, i) => sum + recurrences[i]!, 0) / places.length).toFixed(2)] : []),
    ]),
  ];
  const heads = results.flatMap(({ depth }) => [`depth ${depth}`, ...(exits ? ['recurrences'] : [])]);
  return table([
    ['', 'problems', ...heads].map(style.bold),
    ...[...groupsOf(problems, by)].map(([name, places]) => row(name, places)),
    row(
      'all',
      problems.map((_, i) => i),
    ),
  ]);
}
