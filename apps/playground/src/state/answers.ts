/** Right answers of the problems that the project's small models are trained on, from the prompt alone. */
const solvers: readonly (readonly [RegExp, (match: RegExpMatchArray) => string | undefined])[] = [
  [/^(\d{1,15})\+(\d{1,15})=$/, ([, a, b]) => String(Number(a) + Number(b))],
  [/^#([01]+)=$/, ([, bits]) => String([...bits!].filter((bit) => bit === '1').length % 2)],
  [
    /^@(\d\d(?:\.\d\d)*):(\d)\*(\d+)=$/,
    ([, edges, start, steps]) => {
      const next = new Map(edges!.split('.').map((edge) => [edge[0]!, edge[1]!]));
      let at: string | undefined = start;
      for (let i = 0; i < Number(steps) && at !== undefined; i++) at = next.get(at);
      return at;
    },
  ],
  [
    /^%([1-5]{2,5}(?:\.[1-5]{2,5})*)=$/,
    ([, text]) => {
      const all = text!.split('.').map((one) => [...one].map(Number));
      const inOrder = all[0]!.map((_, i) => i + 1).join('');
      if (all.some((one) => [...one].sort().join('') !== inOrder)) return undefined;
      return all.reduce((before, now) => now.map((i) => before[i - 1]!)).join('');
    },
  ],
];

/** The right answer, where the prompt is a problem of a known kind. */
export function solve(prompt: string): string | undefined {
  for (const [form, solver] of solvers) {
    const match = prompt.match(form);
    if (match !== null) return solver(match);
  }
  return undefined;
}

/** The rest of the right answer, where a prompt has its beginning already: `12+30=4` lacks `2`. */
export function solveRest(prompt: string): string | undefined {
  const at = prompt.indexOf('=') + 1;
  const right = at > 0 ? solve(prompt.slice(0, at)) : undefined;
  const begun = prompt.slice(at);
  return right?.startsWith(begun) ? right.slice(begun.length) : undefined;
}

/** What a prompt asks, in words. */
export function explain(prompt: string): string | undefined {
  let match = prompt.match(/^(\d+)\+(\d+)=$/);
  if (match !== null) return `What is ${match[1]} + ${match[2]}?`;
  match = prompt.match(/^#([01]+)=$/);
  if (match !== null) return `Is the number of 1s among these ${match[1]!.length} bits odd (1) or even (0)?`;
  match = prompt.match(/^@(\d\d(?:\.\d\d)*):(\d)\*(\d+)=$/);
  if (match !== null) return `Each pair is an arrow. From ${match[2]}, where do ${match[3]} steps along the arrows lead?`;
  match = prompt.match(/^%([1-5.]+)=$/);
  if (match !== null) return `Apply these ${match[1]!.split('.').length} reorderings one after the other. What order comes out?`;
  return undefined;
}
