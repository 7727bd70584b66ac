import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { checkShapes } from './check.js';
import type { LanguageModel, TextCodec } from './language-model.js';
import { between, checkTokens, whole } from './options.js';
import { disposeThought } from './plain.js';
import { emptyTally, newLane } from './run.js';
import { describeTokens, type Request } from './sampling.js';
import { think } from './think.js';

export interface ScoreOptions {
  readonly model: LanguageModel;
  /** Needed for text. */
  readonly tokenizer?: TextCodec;
  /** What the continuation is conditioned on; without it the continuation's first token is, and is not scored. */
  readonly prompt?: string | readonly number[];
  /** What is scored. As text it is tokenised together with the prompt; scoring begins at the first token that the prompt alone does not have. */
  readonly continuation: string | readonly number[];
  readonly recurrences?: number;
  readonly seed?: number;
  readonly initScale?: number;
  /** Tokens per forward pass. */
  readonly chunk?: number;
  readonly policy?: unknown;
  readonly signal?: AbortSignal;
}

export interface ScoredToken {
  readonly token: number;
  /** Natural logarithm of its probability given everything before it. */
  readonly logprob: number;
  /** Whether it is the most likely token there. */
  readonly best: boolean;
}

export interface Score {
  readonly tokens: readonly ScoredToken[];
  /** Sum of the tokens' logprobs, in nats. */
  readonly logLikelihood: number;
  /** e to the mean negative logprob. */
  readonly perplexity: number;
  /** Whether greedy decoding would give exactly this continuation. */
  readonly greedy: boolean;
}

/** All tokens, and how many of them are the condition. */
function split({ model, tokenizer, prompt, continuation }: ScoreOptions): { tokens: readonly number[]; given: number } {
  const encode = (text: string | readonly number[] | undefined): readonly number[] => {
    if (typeof text !== 'string') return text ?? [];
    if (tokenizer === undefined) throw new OptionError('score: text needs a tokenizer; give one, or give token ids');
    return text === '' ? [] : tokenizer.encode(text);
  };
  const head = encode(prompt);
  let tokens: readonly number[];
  let shared = head.length;
  if (typeof continuation === 'string' && typeof prompt === 'string') {
    tokens = encode(prompt + continuation);
    const differs = head.findIndex((token, i) => tokens[i] !== token);
    if (differs >= 0) shared = differs;
  } else tokens = [...head, ...encode(continuation)];
  const given = Math.max(1, shared);
  if (tokens.length <= given) throw new OptionError('score: the continuation has no token to score; without a prompt it needs two');
  checkTokens('score', model, tokens);
  if (tokens.length > model.contextLength)
    throw new OptionError(`score: ${tokens.length} tokens exceed the context of ${model.contextLength}; shorten the text`);
  return { tokens, given };
}

/** Log-likelihood and perplexity of a continuation, in one pass at one depth (in chunks). Throws OptionError. */
export async function score(options: ScoreOptions): Promise<Score> {
  checkShapes('score', options, ['model', 'continuation']);
  refuseUnknownOptions('score', options, [
    'model',
    'tokenizer',
    'prompt',
    'continuation',
    'recurrences',
    'seed',
    'initScale',
    'chunk',
    'policy',
    'signal',
  ]);
  const { model, policy, signal } = options;
  const { tokens, given } = split(options);
  const depth = whole('score', 'recurrences (depth)', options.recurrences ?? model.meanRecurrence, 1, 65536);
  const seed = whole('score', 'seed', options.seed ?? 0, 0, Number.MAX_SAFE_INTEGER);
  const chunk = whole('score', 'chunk', options.chunk ?? 256, 1, 2 ** 31);
  const initScale = between('score', 'initScale', options.initScale ?? 1, 0, 1e6);
  const cache = model.createCache(policy === undefined ? {} : { policy });
  const engine = { model, cache, initScale, hook: undefined, signal, tally: emptyTally() };
  const lane = newLane(tokens, { seed });
  const scored: ScoredToken[] = [];
  try {
    // The last token's own logits would judge what follows the text.
    for (let start = 0; start < tokens.length - 1; start += chunk) {
      signal?.throwIfAborted();
      const end = Math.min(tokens.length - 1, start + chunk);
      const thought = await think(engine, {
        lanes: [lane],
        tokens: Int32Array.from(tokens.slice(start, end)),
        positions: Int32Array.from({ length: end - start }, (_, i) => start + i),
        depth,
        readout: 'all',
      });
      try {
        const requests = Array.from(
          { length: end - start },
          (_, i): Request => ({ seed, position: start + i + 1, tokens, promptLength: tokens.length }),
        );
        const described = await describeTokens(thought.logits, tokens.slice(start + 1, end + 1), requests, { alternatives: 1 });
        described.forEach(({ token, logprob, alternatives }, i) => {
          if (start + i + 1 >= given) scored.push({ token, logprob, best: alternatives![0]!.token === token });
        });
      } finally {
        disposeThought(thought);
      }
    }
  } finally {
    cache.dispose();
  }
  const logLikelihood = scored.reduce((sum, { logprob }) => sum + logprob, 0);
  return { tokens: scored, logLikelihood, perplexity: Math.exp(-logLikelihood / scored.length), greedy: scored.every(({ best }) => best) };
}
