import { chains } from '@unroll/nn';
import { ignoreTarget } from '@unroll/recurrent';
import { solvedByDepth } from '@unroll/train';
import type { EngineState } from './engine.js';
import type { Example } from './protocol.js';

/** The least depth from which on each example's whole answer, with its end, is right at every asked depth; 0 where there is none. */
export async function runSurvey(engine: EngineState, examples: readonly Example[], depths: readonly number[]): Promise<number[]> {
  const { tokenizer } = engine;
  const end = tokenizer.stopTokens[0];
  const tokens: number[] = [];
  const targets: number[] = [];
  const answers: number[][] = [];
  const lengths = examples.map(({ prompt, answer }) => {
    const own: number[] = [];
    const asked = tokenizer.encode(prompt);
    const all = [...asked, ...tokenizer.encode(answer, { addSpecialTokens: false }), ...(end === undefined ? [] : [end])];
    for (let i = 0; i < all.length - 1; i++) {
      if (i + 1 >= asked.length) own.push(tokens.length);
      tokens.push(all[i]!);
      targets.push(i + 1 >= asked.length ? all[i + 1]! : ignoreTarget);
    }
    answers.push(own);
    return all.length - 1;
  });
  const data = {
    batch: examples.length,
    tokens: Int32Array.from(tokens),
    targets: Int32Array.from(targets),
    parents: chains(lengths),
  };
  const right = await solvedByDepth(engine.loaded.model, { data, answers }, depths);
  return examples.map((_, i) => {
    let needed = 0;
    for (let d = depths.length - 1; d >= 0 && right[d]![i]; d--) needed = depths[d]!;
    return needed;
  });
}
