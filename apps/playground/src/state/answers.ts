/** Accepted answers of the problems that the project's small models are trained on, from the prompt alone. */
const solvers: readonly (readonly [RegExp, (match: RegExpMatchArray) => readonly (string | undefined)[]])[] = [
  [
    /^(\d{1,15})\+(\d{1,15})=$/,
    ([, a, b]) => {
      const sum = String(Number(a) + Number(b));
      // Numbers of one length may ask for a sum that is one digit longer, with zeros before it.
      return a!.length === b!.length ? [...new Set([sum, sum.padStart(a!.length + 1, '0')])] : [sum];
    },
  ],
  [/^#([01]+)=$/, ([, bits]) => [String(bits!.replaceAll('0', '').length % 2)]],
  [/^&([0-4]+)=$/, ([, terms]) => [String([...terms!].reduce((sum, term) => sum + Number(term), 0) % 5)]],
  [/^@(\d\d(?:\.\d\d)*)=(\d)(\**)$/, ([, edges, start, stars]) => [walk(edges!, start!, stars!.length + 1)]],
  [/^@(\d\d(?:\.\d\d)*):(\d)(\*+)=$/, ([, edges, start, stars]) => [walk(edges!, start!, stars!.length)]],
  [
    /^%([1-4]+)=$/,
    ([, swaps]) => {
      const things = [1, 2, 3, 4, 5];
      for (const swap of swaps!) {
        const place = Number(swap);
        [things[place - 1], things[place]] = [things[place]!, things[place - 1]!];
      }
      return [things.join('')];
    },
  ],
];

function walk(edges: string, start: string, steps: number): string | undefined {
  const next = new Map(edges.split('.').map((edge) => [edge[0]!, edge[1]!]));
  let at: string | undefined = start;
  for (let i = 0; i < steps && at !== undefined; i++) at = next.get(at);
  return at;
}

/** The accepted answers, the plainest first; none where the prompt is no problem of a known kind. */
export function solve(prompt: string): readonly string[] {
  for (const [form, solver] of solvers) {
    const match = prompt.match(form);
    if (match !== null) return solver(match).filter((answer) => answer !== undefined);
  }
  return [];
}

/** The rest of the accepted answers, where a prompt has their beginning already: `12+30=4` lacks `2`. */
export function solveRest(prompt: string): readonly string[] {
  for (let end = prompt.length; end > 0; end--) {
    const begun = prompt.slice(end);
    const fitting = solve(prompt.slice(0, end)).filter((answer) => answer.startsWith(begun));
    if (fitting.length > 0) return fitting.map((answer) => answer.slice(begun.length));
  }
  return [];
}

/** What is said about an answer; undefined where nobody knows. */
export function verdict(text: string, right: readonly string[]): { readonly good: boolean; readonly text: string } | undefined {
  if (right.length === 0) return undefined;
  const good = right.includes(text.trim());
  return { good, text: good ? '✓ right' : `✗ it is ${right[0]}` };
}

/** What a prompt asks, in words. */
export function explain(prompt: string): string | undefined {
  if (solve(prompt).length === 0) return undefined;
  const [, a, b] = prompt.match(/^(\d+)\+(\d+)=$/) ?? [];
  if (a !== undefined) return `What is ${a} + ${b}?`;
  if (prompt.startsWith('#')) return 'Is the number of ones odd (1) or even (0)?';
  if (prompt.startsWith('%'))
    return 'Five things in the order 12345: each digit swaps the things in its place and the next. What order comes out?';
  if (prompt.startsWith('&')) return 'What is left of the sum of the digits when it is divided by 5?';
  const stars = prompt.split('*').length - 1;
  const steps = prompt.includes(':') ? stars : stars + 1;
  const start = /[=:](\d)/.exec(prompt)![1];
  return `Each pair is an arrow. From ${start}, where ${steps === 1 ? 'does one step' : `do ${steps} steps`} along the arrows lead?`;
}
