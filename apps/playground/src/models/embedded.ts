import { bytesFiles, type FileSet } from '@unroll/checkpoint';
import { type EmbeddedName, embeddedNames, loadEmbedded, type Problem } from '@unroll/pretrained';
import type { Example } from '../worker/protocol.js';

export const isEmbedded = (name: string): name is EmbeddedName => (embeddedNames as readonly string[]).includes(name);

/** The model that loads by itself: the one with the most to show. The adder has one kind of problem, so that any other comes before it. */
export const defaultEmbedded = (): EmbeddedName => embeddedNames.find((name) => (name as string) !== 'adder') ?? embeddedNames[0]!;

/** Kinds of problems, told apart by the sign that their prompts begin with. */
const TASKS: readonly (readonly [RegExp, string])[] = [
  [/^#/, 'parity'],
  [/^@/, 'pointer'],
  [/^%/, 'permutation'],
  [/^&/, 'chain'],
  [/^\d+\+\d+=$/, 'addition'],
];
export const taskOf = (prompt: string): string => TASKS.find(([sign]) => sign.test(prompt))?.[1] ?? 'problem';

const PER_TASK = 40;

/** Problems of every kind in turn, from short to long within each kind. */
export function examplesFrom(problems: readonly Problem[]): Example[] {
  const byTask = new Map<string, Example[]>();
  for (const { prompt, answer } of problems) {
    const task = taskOf(prompt);
    const list = byTask.get(task) ?? [];
    byTask.set(task, list);
    list.push({ prompt, answer, task });
  }
  return [...byTask.values()].flatMap((list) => {
    const sorted = [...list].sort((a, b) => a.prompt.length - b.prompt.length);
    const stride = Math.max(1, sorted.length / PER_TASK);
    return Array.from({ length: Math.min(PER_TASK, sorted.length) }, (_, i) => sorted[Math.floor(i * stride)]!);
  });
}

/** An embedded model as the folder that it was made from. */
export async function embeddedFiles(name: string): Promise<{ files: FileSet; examples: readonly Example[]; card: string }> {
  if (!isEmbedded(name)) throw new Error(`there is no embedded model "${name}"; there are ${embeddedNames.join(', ')}`);
  const embedded = await loadEmbedded(name);
  const files = bytesFiles(
    {
      'config.json': JSON.stringify(embedded.config),
      'tokenizer.json': JSON.stringify(embedded.tokenizer),
      'tokenizer_config.json': JSON.stringify(embedded.tokenizerConfig),
      'generation_config.json': JSON.stringify(embedded.generationConfig),
      'model.safetensors': embedded.weights,
    },
    name,
  );
  return { files, examples: examplesFrom(embedded.problems), card: embedded.card };
}
