/** Mean of each stretch, so that a line of thousands of steps can be read. */
export function smooth(values: readonly number[], points = 200): { x: number[]; y: number[] } {
  const stretch = Math.max(1, Math.ceil(values.length / points));
  const x: number[] = [];
  const y: number[] = [];
  for (let i = 0; i < values.length; i += stretch) {
    const part = values.slice(i, i + stretch);
    x.push(i + part.length);
    y.push(part.reduce((sum, value) => sum + value, 0) / part.length);
  }
  return { x, y };
}
