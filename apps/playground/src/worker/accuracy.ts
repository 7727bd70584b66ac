import { type InitialState, layoutOf, type RecurrentModel, type TrainingBatch } from '@unroll/recurrent';
import { argmax, reshape, type Tensor, tidy } from '@unroll/tensor';

/**
 * Which sequences of a packed batch have their whole answer as the most likely one, at each of the depths. Every answer token is asked
 * behind the right tokens before it, which for a whole answer is the same as greedy decoding.
 */
export async function rightByDepth(
  model: RecurrentModel,
  batch: TrainingBatch,
  depths: readonly number[],
  start: InitialState,
): Promise<boolean[][]> {
  const { open, shape } = layoutOf(model, batch);
  const pass = open();
  const N = shape[0] * shape[1];
  let guesses: readonly Tensor<'i32'>[] = [];
  try {
    guesses = tidy(model.device, () => {
      const found: Tensor<'i32'>[] = [];
      const e = model.prelude(model.device.tensor(batch.tokens, shape, { dtype: 'i32' }), pass);
      let state = model.initialState(pass, start);
      for (let loop = 0; loop < Math.max(...depths); loop++) {
        state = model.step(e, state, loop, pass);
        if (depths.includes(loop + 1)) found.push(argmax(reshape(model.readout(state, pass), [N, model.vocabularySize])));
      }
      return found;
    });
    const right: boolean[][] = [];
    for (const guess of guesses) right.push(wholeAnswers(await guess.data(), batch));
    return right;
  } finally {
    for (const guess of guesses) guess.dispose();
    pass.dispose();
  }
}

function wholeAnswers(guess: ArrayLike<number>, { lengths = [], targets }: TrainingBatch): boolean[] {
  let at = 0;
  return lengths.map((length) => {
    let good = true;
    for (const end = at + length; at < end; at++) good &&= targets[at]! < 0 || guess[at] === targets[at];
    return good;
  });
}

export const share = (right: readonly boolean[]): number => right.filter(Boolean).length / Math.max(1, right.length);
