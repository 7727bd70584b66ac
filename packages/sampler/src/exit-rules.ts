import {
  add,
  affine,
  argmax,
  copy,
  div,
  keep,
  log,
  max,
  maximum,
  mean,
  minimum,
  mul,
  OptionError,
  refuseUnknownOptions,
  reshape,
  slice,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  tidy,
} from '@unroll/tensor';
import { controlNames, type ExitControls, type ExitReading, type ExitRule, type MeasuredExit, parseControls } from './exit.js';
import type { LanguageModel } from './language-model.js';

// The criteria of the published model's generate functions, with their first "previous" values. A NaN never exits: it is below nothing.

export interface ExitRuleOptions extends ExitControls {
  readonly threshold?: number;
}

/** Norm of each row, (T, C) -> (T). */
export const rowNorms = (x: Tensor): Tensor => sqrt(sum(square(x), { axis: -1 }));

function rule(
  name: string,
  threshold: number,
  options: ExitRuleOptions,
  begin: (start: Tensor, model: LanguageModel, threshold: number) => MeasuredExit,
): ExitRule {
  refuseUnknownOptions(name, options, ['threshold', ...controlNames]);
  const limit = options.threshold ?? threshold;
  if (typeof limit !== 'number' || Number.isNaN(limit)) throw new OptionError(`${name}: threshold must be a number; got ${limit}`);
  return { name, ...parseControls(name, options), begin: (start, model) => begin(start, model, limit) };
}

const below = (value: number, threshold: number): ExitReading => ({ value, exit: value < threshold });

/** A test that compares a state with that of the last check. */
function stateTest(start: Tensor, threshold: number, measure: (state: Tensor, previous: Tensor) => Tensor): MeasuredExit {
  let previous = keep(copy(start));
  return {
    measure({ state }) {
      const value = measure(state, previous);
      previous.dispose();
      previous = keep(copy(state));
      return value;
    },
    judge: (value) => below(value, threshold),
    dispose: () => previous.dispose(),
  };
}

/** norm(s_i - s_{i-1}) / norm(s_i), mean over the positions of the call. Threshold 0.03. */
export const latentDiff = (options: ExitRuleOptions = {}): ExitRule =>
  rule('latent-diff', 0.03, options, (start, _, threshold) =>
    stateTest(start, threshold, (state, previous) => mean(div(rowNorms(sub(state, previous)), rowNorms(state)))),
  );

/** 1 - cosine(s_i, s_{i-1}), mean over the positions of the call; NaN against a zero state. Threshold 0.001. */
export const cosine = (options: ExitRuleOptions = {}): ExitRule =>
  rule('cosine', 1e-3, options, (start, _, threshold) =>
    stateTest(start, threshold, (state, previous) => {
      const cosines = div(sum(mul(state, previous), { axis: -1 }), mul(rowNorms(state), rowNorms(previous)));
      return affine(mean(cosines), { scale: -1, shift: 1 });
    }),
  );

/**
 * norm(d_i - d_{i-1}) / norm(s_i) with d_i = s_i - s_{i-1} and d_0 = 0, mean over the positions of the call; exits when two checks in a
 * row are below the threshold, 0.03.
 */
export const acceleration = (options: ExitRuleOptions = {}): ExitRule =>
  rule('acceleration', 0.03, options, (start, _, threshold) => {
    const first = tidy(start.device, () => ({ state: copy(start), step: affine(start, { scale: 0 }) }));
    let [previous, step]: [Tensor, Tensor] = [keep(first.state), keep(first.step)];
    let hits = 0;
    return {
      measure({ state }) {
        const moved = sub(state, previous);
        const value = mean(div(rowNorms(sub(moved, step)), rowNorms(state)));
        previous.dispose();
        step.dispose();
        previous = keep(copy(state));
        step = keep(moved);
        return value;
      },
      judge(value) {
        hits = value < threshold ? hits + 1 : 0;
        return { value, exit: hits >= 2 };
      },
      dispose() {
        previous.dispose();
        step.dispose();
      },
    };
  });

/** |H_i - H_{i-1}| of the output distribution in nats, p + 1e-10 inside the logarithm; the first previous entropy is 100. Threshold 0.001. */
export const entropyDiff = (options: ExitRuleOptions = {}): ExitRule =>
  rule('entropy-diff', 1e-3, options, (_, __, threshold) => {
    let previous = 100;
    return {
      measure({ logits }) {
        const p = softmax(logits());
        return affine(sum(mul(p, log(affine(p, { shift: 1e-10 })))), { scale: -1 });
      },
      judge(entropy) {
        const value = Math.abs(entropy - previous);
        previous = entropy;
        return below(value, threshold);
      },
      dispose: () => {},
    };
  });

/** A test on KL(p_{i-1} || p_i); the first previous distribution is uniform. */
function divergenceTest(model: LanguageModel, threshold: number, distribution: (logits: Tensor) => Tensor): MeasuredExit {
  const V = model.vocabularySize;
  let previous: Tensor = keep(tidy(model.device, () => affine(model.device.zeros([1, V]), { shift: 1 / V })));
  return {
    measure({ logits }) {
      const p = distribution(logits());
      // A probability that underflowed to 0 adds nothing as p_{i-1}, and log(0) would make it NaN: the smallest normal f32 stands in.
      const floor = model.device.tensor([1.1754944e-38], [1, 1]);
      const value = sum(mul(previous, sub(log(maximum(previous, floor)), log(maximum(p, floor)))));
      previous.dispose();
      previous = keep(p);
      return value;
    },
    judge: (value) => below(value, threshold),
    dispose: () => previous.dispose(),
  };
}

/** KL(p_{i-1} || p_i) of the output distribution in nats; the first previous one is uniform. Threshold 0.001 (the paper reports with 5e-4). */
export const kl = (options: ExitRuleOptions = {}): ExitRule =>
  rule('kl', 1e-3, options, (_, model, threshold) => divergenceTest(model, threshold, softmax));

/** As `kl`, after every p below 0.1 max p is set to 1 / V and the rest renormalised. Threshold 1e-5. */
export const minpKl = (options: ExitRuleOptions = {}): ExitRule =>
  rule('minp-kl', 1e-5, options, (_, model, threshold) =>
    divergenceTest(model, threshold, (logits) => {
      const p = softmax(logits);
      const least = affine(reshape(max(p), [1, 1]), { scale: 0.1 });
      // 1 where p < least and 0 elsewhere: the gap of two f32 numbers of this size is far above 1e-30.
      const small = minimum(affine(sub(maximum(p, least), p), { scale: 1e30 }), model.device.tensor([1], [1, 1]));
      const replaced = add(mul(p, affine(small, { scale: -1, shift: 1 })), affine(small, { scale: 1 / model.vocabularySize }));
      return div(replaced, reshape(sum(replaced), [1, 1]));
    }),
  );

/** How many checks in a row the most likely token has stayed the same; exits at the threshold, 5. */
export const argmaxStability = (options: ExitRuleOptions = {}): ExitRule =>
  rule('argmax-stability', 5, options, (_, __, threshold) => {
    let previous = -1;
    let unchanged = 0;
    return {
      measure: ({ logits }) => argmax(logits()),
      judge(token) {
        unchanged = token === previous ? unchanged + 1 : 0;
        previous = token;
        return { value: unchanged, exit: unchanged >= threshold };
      },
      dispose: () => {},
    };
  });

/**
 * The Q-exit of Ouro (arXiv 2510.25741), for models that were trained with an exit gate: lambda_i = sigmoid(gate(s_i)) of the last position is
 * the probability of stopping at recurrence i where the ones before did not, and the run stops when 1 - prod(1 - lambda_j), the probability of
 * having stopped, reaches the threshold. 0.5 when absent: the median of the depths that the gate wishes; 1 never stops early. Every recurrence
 * counts in the product; `minRecurrences` and `every` say where it may stop. Throws OptionError for a model without a gate.
 */
export function qExit(options: ExitRuleOptions = {}): ExitRule {
  const { minRecurrences, every } = parseControls('q-exit', options);
  const { minRecurrences: _, every: __, ...rest } = options;
  const threshold = options.threshold ?? 0.5;
  if (!(threshold > 0 && threshold <= 1)) throw new OptionError(`q-exit: threshold must be above 0 and at most 1; got ${threshold}`);
  return rule('q-exit', threshold, rest, (__, model) => {
    const { exitLogits } = model;
    if (exitLogits === undefined) throw new OptionError('q-exit: the model has no exit gate; use a rule that reads states or logits');
    let running = 1;
    let recurrence = 0;
    return {
      measure: ({ state }) => exitLogits.call(model, slice(state, 0, state.shape[0]! - 1, state.shape[0]!)),
      judge(logit) {
        running /= 1 + Math.exp(logit);
        recurrence++;
        const value = 1 - running;
        const asked = recurrence >= minRecurrences && (recurrence - minRecurrences) % every === 0;
        return { value, exit: asked && value >= threshold };
      },
      dispose: () => {},
    };
  });
}

const rules = {
  'latent-diff': latentDiff,
  cosine,
  acceleration,
  'entropy-diff': entropyDiff,
  kl,
  'minp-kl': minpKl,
  'argmax-stability': argmaxStability,
};
export type ExitRuleName = keyof typeof rules;
/** The rules that any model can use. */
export const exitRuleNames = Object.keys(rules) as ExitRuleName[];

/** A built-in rule by its name, `q-exit` for models with an exit gate among them. Throws OptionError for another name. */
export function exitRule(name: string, options: ExitRuleOptions = {}): ExitRule {
  if (name === 'q-exit') return qExit(options);
  if (!Object.hasOwn(rules, name))
    throw new OptionError(`unknown exit rule "${name}"; known rules: ${exitRuleNames.join(', ')}, and q-exit for models with an exit gate`);
  return rules[name as ExitRuleName](options);
}
