import type { RecurrentModel } from '@unroll/recurrent';
import { customExit, type ExitRule } from '@unroll/sampler';
import { OptionError, sigmoid, slice } from '@unroll/tensor';

// #region exit
/**
 * Ends at the first loop by which the gate would have stopped with probability `threshold`: 1 - (1 - l_1) ... (1 - l_t) >= threshold. The
 * gate is read at the last position, whose next token is wanted; the rest of a prompt ends with it, as it did in training.
 */
export function gateExit(model: RecurrentModel, threshold: number): ExitRule {
  if (!(threshold > 0 && threshold <= 1)) throw new OptionError(`gateExit: threshold must be above 0 and at most 1; got ${threshold}`);
  if (model.params.transformer.exit_gate === undefined) throw new OptionError('gateExit: the model has no exit gate');
  return customExit({
    name: `gate:${threshold}`,
    begin() {
      let left = 1;
      return {
        // One number on the device; `state` is (T, C), the gate's logit of its last row is (1, 1).
        measure: ({ state }) => sigmoid(model.exitLogits(slice(state, 0, state.shape[0]! - 1, state.shape[0]!))),
        judge(stop) {
          left *= 1 - stop;
          return { value: 1 - left, exit: 1 - left >= threshold };
        },
      };
    },
  });
}
// #endregion exit
