import { disposeTree } from '@unroll/tensor';
import { type Advanced, advance } from './decode.js';
import type { ModelCache } from './language-model.js';
import { type GenerateOptions, parseOptions, type Run } from './options.js';
import { logitsRow, sampleToken } from './sampling.js';

/** Why a text ended. */
export type Finish = 'stop-token' | 'length';

export interface GeneratedToken {
  readonly token: number;
  /** Text that became complete with this token; '' without a tokenizer, or while a character is unfinished. */
  readonly text: string;
  /** Natural logarithm of the token's probability under the model, before temperature and filters. */
  readonly logprob: number;
  /** Depth that the logits behind this token were computed with. */
  readonly recurrences: number;
  /** Set on the last token. */
  readonly finish?: Finish;
}

function prefill(run: Run, cache: ModelCache): Advanced {
  let last: Advanced | undefined;
  for (let start = 0; start < run.prompt.length; start += run.prefillChunk) {
    run.signal?.throwIfAborted();
    disposeTree(last);
    const chunk = Int32Array.from(run.prompt.slice(start, start + run.prefillChunk));
    last = advance(run.model, cache, chunk, chunk.map((_, i) => start + i), run);
  }
  return last!;
}

/** The next token at depth r, from a fresh state or from where the last one ended. Consumes `last`. */
function next(run: Run, cache: ModelCache, token: number, position: number, last: Advanced): Advanced {
  const { model, warmStart } = run;
  const start = warmStart === 'norm-state' ? model.normState(last.state) : last.state;
  try {
    return advance(model, cache, Int32Array.of(token), Int32Array.of(position), run, warmStart === undefined ? undefined : start);
  } finally {
    start.dispose();
    disposeTree(last);
  }
}

/**
 * Streams the continuation of a prompt, token by token. Ends at a stop token (which is the last item, without text of its own) or at
 * `maxNewTokens`. Leaving the loop, an abort or an error gives all memory back. Throws OptionError for bad options before any work.
 *
 * @example
 * for await (const { text } of generate({ model, tokenizer, prompt: '2+3=', recurrences: 8 })) process.stdout.write(text);
 */
export async function* generate(options: GenerateOptions): AsyncGenerator<GeneratedToken, void, void> {
  const run = parseOptions(options);
  if (run.maxNewTokens === 0) return;
  const { model, recurrences } = run;
  const cache = run.cache ?? model.createCache(run.policy === undefined ? {} : { policy: run.policy });
  const text = run.tokenizer?.stream();
  let last: Advanced | undefined;
  try {
    last = prefill(run, cache);
    for (let n = 0; n < run.maxNewTokens; n++) {
      run.signal?.throwIfAborted();
      const position = run.prompt.length + n;
      const row = logitsRow(last.logits, 0);
      const { token, logprob } = await sampleToken(row, position, run).finally(() => row.dispose());
      const stopped = run.stopTokens.has(token);
      const ended = stopped || n === run.maxNewTokens - 1;
      const complete = (stopped ? '' : (text?.push(token) ?? '')) + (ended ? (text?.flush() ?? '') : '');
      const item = { token, text: complete, logprob, recurrences };
      if (ended) {
        yield { ...item, finish: stopped ? 'stop-token' : 'length' };
        return;
      }
      yield item;
      run.signal?.throwIfAborted();
      last = next(run, cache, token, position, last);
    }
  } finally {
    disposeTree(last);
    if (run.cache === undefined) cache.dispose();
  }
}
