import type { ExitRecord } from './exit.js';
import type { ModelCache } from './language-model.js';
import type { Produced } from './plain.js';
import type { Lane, Run, RunReport, Tally } from './run.js';
import type { Choice } from './sampling.js';
import { TextStream } from './text.js';

/** Why a text ended. */
export type Finish = 'stop-token' | 'stop-string' | 'length';

export interface GeneratedToken extends Choice {
  /** Text that became final with this token; '' without a tokenizer, while a character is unfinished, or while it may begin a stop string. */
  readonly text: string;
  /** Depth that the logits behind this token were computed with. */
  readonly recurrences: number;
  /** With an exit rule: its values, and the one that stopped this token. */
  readonly exit?: ExitRecord;
  /** Speculative decoding: whether this token is a draft that was accepted. */
  readonly drafted?: boolean;
  /** Set on the last token. */
  readonly finish?: Finish;
  /** The stop string that ended the text; no part of it is in any `text`. */
  readonly stopString?: string;
  /** Set on the last token, and on every one with `reports: 'every'`. */
  readonly report?: RunReport;
}

/** Turns what a strategy produces for one lane into what the caller gets: text, ends and the report. */
export class Emitter {
  readonly #text: TextStream;
  #recurrences = 0;

  constructor(
    private readonly run: Run,
    private readonly lane: Lane,
    private readonly cache: ModelCache,
    private readonly tally: Tally,
    private readonly reused: { readonly cachedTokens: number; readonly droppedTokens: number } = { cachedTokens: 0, droppedTokens: 0 },
  ) {
    this.#text = new TextStream(run.tokenizer, lane.tokens.slice(), run.stopStrings);
  }

  accept({ lane, exit, ...produced }: Produced): GeneratedToken {
    lane.tokens.push(produced.token);
    this.#recurrences += produced.recurrences;
    const stopped = this.run.stopTokens.has(produced.token);
    const pushed = stopped ? { text: '' } : this.#text.push(produced.token);
    const full = lane.tokens.length - lane.promptLength >= lane.limit;
    const base = { ...produced, ...(exit === undefined ? {} : { exit }) };
    if (pushed.stop === undefined && !stopped && !full)
      return { ...base, text: pushed.text, ...(this.run.reportsEvery ? { report: this.#report() } : {}) };
    const flushed = pushed.stop === undefined ? this.#text.flush() : { text: '' };
    const stop = pushed.stop ?? flushed.stop;
    lane.done = true;
    return {
      ...base,
      text: pushed.text + flushed.text,
      finish: stop !== undefined ? 'stop-string' : stopped ? 'stop-token' : 'length',
      ...(stop === undefined ? {} : { stopString: stop }),
      report: this.#report(),
    };
  }

  #report(): RunReport {
    const { lane, tally, run } = this;
    const newTokens = lane.tokens.length - lane.promptLength;
    const { rounds, drafted, accepted, recurrencesPerPosition, frozenInRound } = tally;
    const inPrefill = run.exit?.inPrefill ?? false;
    return {
      promptTokens: lane.promptLength,
      ...this.reused,
      newTokens,
      corePasses: tally.corePasses,
      corePositions: tally.corePositions,
      meanRecurrences: this.#recurrences / newTokens,
      ...(run.speculative === undefined ? {} : { speculation: { rounds, drafted, accepted } }),
      ...(inPrefill === false ? {} : { promptRecurrences: [...lane.promptRecurrences] }),
      ...(run.wavefront === undefined
        ? {}
        : {
            wavefront: {
              rounds,
              recurrencesPerPosition: recurrencesPerPosition ?? [],
              frozenInRound: frozenInRound.slice(0, newTokens),
            },
          }),
      cache: this.cache.usage(),
    };
  }
}
