import {
  add,
  affine,
  argmax,
  crossEntropy,
  type Device,
  gatherRows,
  logSumExp,
  randomKey,
  randomRows,
  reshape,
  slice,
  sub,
  type Tensor,
  tidy,
  topK,
  UnrollError,
} from '@unroll/tensor';
import { candidates, keepCandidates } from './filters.js';
import { applyPenalties, type LogitsProcessor, type Penalties } from './penalties.js';

/** How the next token is chosen. The README gives the order of operations. */
export interface SamplingOptions extends Penalties {
  /** 0 takes the most likely token. */
  readonly temperature: number;
  readonly topK: number | undefined;
  readonly topP: number;
  readonly minP: number;
  readonly processors: readonly LogitsProcessor[];
  /** How many of the most likely tokens to report beside the chosen one. */
  readonly alternatives: number;
  /** Without it, a token's number is all that comes back from the device, and `logprob` is NaN. */
  readonly logprobs: boolean;
  /** `host` reads all logits back and does everything there, for comparison; the same tokens come out. */
  readonly where: 'auto' | 'host';
}

/** Whose token is to be chosen: the key of its noise, and the tokens before it. */
export interface Request {
  readonly seed: number;
  /** Position of the token that is chosen. */
  readonly position: number;
  readonly tokens: readonly number[];
  readonly promptLength: number;
}

export interface Alternative {
  readonly token: number;
  readonly logprob: number;
}

export interface Choice {
  readonly token: number;
  /** Natural logarithm of the token's probability under the model, before penalties, temperature and filters; NaN with `logprobs: false`. */
  readonly logprob: number;
  /** The most likely tokens under the model, best first. */
  readonly alternatives?: readonly Alternative[];
}

/** Noise of the Gumbel race (R, V): value t of a row is a function of (seed, position, t), so every way of decoding meets the same noise. */
export function gumbelNoise(device: Device, requests: readonly Pick<Request, 'seed' | 'position'>[], V: number): Tensor<'f32'> {
  return tidy(device, () => {
    const R = requests.length;
    const keys = device.tensor(
      requests.flatMap(({ seed }) => randomKey(seed, 'sampling')),
      [R, 2],
      { dtype: 'i32' },
    );
    const positions = device.tensor(
      requests.map(({ position }) => position),
      [R],
      { dtype: 'i32' },
    );
    return randomRows(keys, positions, { distribution: 'gumbel', width: V });
  });
}

const needsAllLogits = (options: SamplingOptions): boolean =>
  options.where === 'host' ||
  options.processors.length > 0 ||
  options.logitBias !== undefined ||
  options.repetitionPenalty !== 1 ||
  options.presencePenalty !== 0 ||
  options.frequencyPenalty !== 0;

const racesWhole = ({ topP, minP, topK }: SamplingOptions): boolean => topP >= 1 && minP === 0 && topK === undefined;

/** Whether the token itself is found on the device, so that whoever goes on with it need not wait for the host. */
export const choosesOnDevice = (options: SamplingOptions): boolean =>
  !needsAllLogits(options) && (options.temperature === 0 || options.topK === 1 || racesWhole(options));

/** The tokens (R) i32 of logits (R, V), where `choosesOnDevice`; ~token where the logits hold NaN and no logprob will tell. */
export function bestTokens(
  logits: Tensor<'f32'>,
  requests: readonly Pick<Request, 'seed' | 'position'>[],
  options: SamplingOptions,
): Tensor<'i32'> {
  const { device } = logits;
  const mark = { markNaN: !options.logprobs };
  return tidy(device, () => {
    if (options.temperature === 0 || options.topK === 1) return argmax(logits, mark);
    return argmax(add(affine(logits, { scale: 1 / options.temperature }), gumbelNoise(device, requests, logits.shape[1]!)), mark);
  });
}

/**
 * Chooses a token for each row of logits (R, V) by the Gumbel race: the argmax of logit / temperature + noise over the kept tokens is
 * distributed as their softmax (Gumbel 1954). Runs on the device, from where a token, or the k candidates of top-k, come back, unless
 * penalties, biases, processors, or top-p or min-p over the whole vocabulary need all logits. Throws UnrollError for logits that are NaN.
 */
export async function chooseTokens(logits: Tensor<'f32'>, requests: readonly Request[], options: SamplingOptions): Promise<Choice[]> {
  let tokens: number[];
  if (needsAllLogits(options)) tokens = await chooseOnHost(logits, requests, options);
  else if (choosesOnDevice(options)) {
    const best = bestTokens(logits, requests, options);
    try {
      // The device goes on without the host: one submit a token.
      return await describeTokens(logits, best, requests, options);
    } finally {
      best.dispose();
    }
  } else tokens = await raceCandidates(logits, requests, options);
  return describeTokens(logits, tokens, requests, options);
}

/** What comes back for a race: all scaled logits and their noise, or those of the candidates; `marked` where the rows with NaN are asked for. */
interface RaceParts {
  readonly values: Tensor<'f32'>;
  readonly noise?: Tensor<'f32'>;
  readonly indices?: Tensor<'i32'>;
  readonly chosen?: readonly Tensor<'f32'>[];
  readonly marked?: Tensor<'i32'>;
}

/** The race among the k most likely tokens, which alone come back; k = V without top-k. */
async function raceCandidates(logits: Tensor<'f32'>, requests: readonly Request[], options: SamplingOptions): Promise<number[]> {
  const V = logits.shape[1]!;
  const R = requests.length;
  const k = Math.min(options.topK ?? V, V);
  const parts = tidy(logits.device, (): RaceParts => {
    const scaled = affine(logits, { scale: 1 / options.temperature });
    const noise = gumbelNoise(logits.device, requests, V);
    const top = k < V ? topK(scaled, k) : undefined;
    // No logprob tells of NaN, and it need not be among the candidates.
    const check = options.logprobs ? {} : { marked: argmax(logits, { markNaN: true }) };
    if (top === undefined) return { values: scaled, noise, ...check };
    const chosen = requests.map((_, r) =>
      gatherRows(reshape(slice(noise, 0, r, r + 1), [V, 1]), reshape(slice(top.indices, 0, r, r + 1), [k])),
    );
    return { values: top.values, indices: top.indices, chosen, ...check };
  });
  try {
    const [values, indices, marked, noise] = await Promise.all([
      parts.values.data(),
      parts.indices?.data(),
      parts.marked?.data(),
      parts.noise !== undefined
        ? parts.noise.data()
        : Promise.all(parts.chosen!.map((row) => row.data())).then((rows) => Float32Array.from(rows.flatMap((row) => [...row]))),
    ]);
    const unsound = marked?.findIndex((token) => token < 0) ?? -1;
    if (unsound >= 0) throw notNumbers(requests[unsound]!.position);
    return Array.from({ length: R }, (_, r) => {
      const row = (x: ArrayLike<number>) => (x as Float32Array).subarray(r * k, (r + 1) * k);
      const ids = indices === undefined ? undefined : row(indices);
      return race(candidates(row(values), ids), row(noise), options);
    });
  } finally {
    for (const tensor of [parts.values, parts.indices, parts.marked, parts.noise, ...(parts.chosen ?? [])]) tensor?.dispose();
  }
}

/** The winner among what filters keep. `places` index the scaled logits and the noise. */
function race(all: ReturnType<typeof candidates>, noise: Float32Array, options: Pick<SamplingOptions, 'topK' | 'topP' | 'minP'>): number {
  let token = -1;
  let best = Number.NEGATIVE_INFINITY;
  for (const { id, place, scaled } of keepCandidates(all, options)) {
    const score = Math.fround(scaled + noise[place]!);
    if (token < 0 || score > best || (score === best && id < token)) [token, best] = [id, score];
  }
  return token;
}

async function chooseOnHost(logits: Tensor<'f32'>, requests: readonly Request[], options: SamplingOptions): Promise<number[]> {
  const V = logits.shape[1]!;
  const noiseTensor = options.temperature === 0 ? undefined : gumbelNoise(logits.device, requests, V);
  const [values, noise] = await Promise.all([logits.data(), noiseTensor?.data()]).finally(() => noiseTensor?.dispose());
  const scale = Math.fround(1 / options.temperature);
  return requests.map((request, r) => {
    let row: Float32Array = values.slice(r * V, (r + 1) * V);
    applyPenalties(row, request, options);
    const context = { tokens: request.tokens, promptLength: request.promptLength };
    for (const processor of options.processors) {
      const replaced = processor(row, context) ?? row;
      if (!(replaced instanceof Float32Array) || replaced.length !== V) {
        throw new UnrollError(`generate: a logits processor must change its ${V} logits in place or return a Float32Array of as many`);
      }
      row = replaced;
    }
    const bad = row.findIndex((value) => Number.isNaN(value) || value === Number.POSITIVE_INFINITY);
    if (bad >= 0 && !(values[r * V + bad]! < Number.POSITIVE_INFINITY)) throw notNumbers(request.position);
    if (bad >= 0) {
      throw new UnrollError(
        `generate: the logits processors made the logit of token ${bad} at position ${request.position} ${row[bad]}; expected numbers below Infinity. Use -Infinity to rule a token out`,
      );
    }
    if (row.every((value) => value === Number.NEGATIVE_INFINITY)) {
      throw new UnrollError(`generate: biases and processors leave no token for position ${request.position}; let at least one pass`);
    }
    if (noise === undefined) return row.reduce((best, value, id) => (value > row[best]! ? id : best), 0);
    return race(candidates(row.map((value) => value * scale)), noise.subarray(r * V, (r + 1) * V), options);
  });
}

const notNumbers = (position: number) =>
  new UnrollError(
    `generate: the logits for position ${position} are not numbers; the weights hold NaN or infinite values, or the state diverged (lower the initial state's scale or the depth)`,
  );

/** Log-probabilities of the chosen tokens and of the best ones, as far as asked for. The tokens may be a tensor (R). */
export async function describeTokens(
  logits: Tensor<'f32'>,
  asked: readonly number[] | Tensor<'i32'>,
  requests: readonly Pick<Request, 'position'>[],
  { alternatives: n, logprobs = true }: { readonly alternatives: number; readonly logprobs?: boolean },
): Promise<Choice[]> {
  const V = logits.shape[1]!;
  const parts = tidy(logits.device, (): { losses?: Tensor<'f32'>; values?: Tensor<'f32'>; indices?: Tensor<'i32'> } => {
    const targets = () => ('storage' in asked ? asked : logits.device.tensor(asked, undefined, { dtype: 'i32' }));
    return {
      ...(logprobs ? { losses: crossEntropy(logits, targets()) } : {}),
      ...(n > 0 ? topK(sub(logits, logSumExp(logits, { axis: -1, keepDims: true })), Math.min(n, V)) : {}),
    };
  });
  try {
    const [tokens, losses, values, indices] = await Promise.all([
      'storage' in asked ? asked.data() : asked,
      parts.losses?.data(),
      parts.values?.data(),
      parts.indices?.data(),
    ]);
    return Array.from(tokens, (token, r) => {
      const logprob = losses === undefined ? Number.NaN : 0 - losses[r]!;
      if (token < 0 || (logprobs && Number.isNaN(logprob))) throw notNumbers(requests[r]!.position);
      if (values === undefined || indices === undefined) return { token, logprob };
      const k = values.length / tokens.length;
      return {
        token,
        logprob,
        alternatives: Array.from({ length: k }, (_, i) => {
          const other = indices[r * k + i]!;
          return { token: other, logprob: logprobs && other === token ? logprob : values[r * k + i]! };
        }),
      };
    });
  } finally {
    for (const tensor of Object.values(parts)) tensor?.dispose();
  }
}
