import { OptionError, refuseUnknownOptions, UnrollError } from '@unroll/tensor';
import { checkShapes } from './check.js';
import { Emitter, type GeneratedToken } from './emit.js';
import { type GenerateOptions, strategyFor } from './generate.js';
import type { CacheUse, LanguageModel, ModelCache, TextCodec } from './language-model.js';
import { cacheUse, commonNames, parseRun, promptTokens } from './options.js';
import { disposeThought } from './plain.js';
import { limitsFor } from './room.js';
import { type Engine, emptyTally, newLane, type WarmStart } from './run.js';
import { think } from './think.js';

export interface SessionOptions {
  readonly model: LanguageModel;
  readonly tokenizer?: TextCodec;
  readonly policy?: unknown;
  /** What the session will be used for; picks the policy where none is given. `mixed-depth` when absent, which serves all but wavefronts best. */
  readonly use?: CacheUse;
  /** `exact` (the default) reuses a token's keys only where a fresh run would compute the same ones; `approximate` reuses every equal token. */
  readonly reuse?: 'exact' | 'approximate';
  /** When prompt and new tokens exceed the context: `error` (the default), or `slide`, which drops the oldest tokens and runs the rest anew. */
  readonly contextFull?: 'error' | 'slide';
}

export type TurnOptions = Omit<GenerateOptions, 'model' | 'tokenizer' | 'policy' | 'cache'>;

/** A token in the cache, and how its keys came about. Their policy is the session's. */
export interface CachedToken {
  readonly token: number;
  /** Recurrences that the token has run. */
  readonly recurrences: number;
  /** What keyed its initial state, and multiplied it. */
  readonly stateSeed: number;
  readonly initScale: number;
  /** How it started where the token before it ended. */
  readonly warmStart?: WarmStart;
  /** The rule that could stop it. */
  readonly exit?: string;
  /** Whether a fresh run of this token as part of a prompt, at this depth and from this state, gives the same keys. */
  readonly reproducible: boolean;
}

/** What `Session.save` gives: named arrays and texts, as a safetensors file holds them. */
export interface SavedSession {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array | Int32Array }>;
}

const format = 'unroll-session-2';

/**
 * A conversation that keeps its keys and values: each turn reuses the longest common prefix of what it has and what is asked, as far as a
 * fresh run would compute the same. An owner of its cache: dispose it. One turn at a time.
 */
export class Session {
  readonly #options: SessionOptions;
  readonly #cache: ModelCache;
  #log: CachedToken[] = [];
  #busy = false;

  /** Throws OptionError. */
  constructor(options: SessionOptions, cache?: ModelCache) {
    checkShapes('Session', options, ['model']);
    refuseUnknownOptions('Session', options, ['model', 'tokenizer', 'policy', 'use', 'reuse', 'contextFull']);
    const { reuse = 'exact', contextFull = 'error', use = 'mixed-depth', policy } = options;
    if (reuse !== 'exact' && reuse !== 'approximate')
      throw new OptionError(`Session: reuse must be "exact" or "approximate"; got ${JSON.stringify(reuse)}`);
    if (contextFull !== 'error' && contextFull !== 'slide')
      throw new OptionError(`Session: contextFull must be "error" or "slide"; got ${JSON.stringify(contextFull)}`);
    this.#options = options;
    this.#cache = cache ?? options.model.createCache({ use, ...(policy === undefined ? {} : { policy }) });
  }

  /** Tokens whose keys are kept. */
  get tokens(): readonly number[] {
    return this.#log.map(({ token }) => token);
  }

  /** The same tokens, with how their keys came about. */
  get records(): readonly CachedToken[] {
    return [...this.#log];
  }

  usage(): ReturnType<ModelCache['usage']> {
    return this.#cache.usage();
  }

  /** As `generate`, on top of what the session has; the report says how many prompt tokens were reused. Throws OptionError, OutOfMemoryError. */
  async *generate(options: TurnOptions): AsyncGenerator<GeneratedToken, void, void> {
    const who = 'Session.generate';
    checkShapes(who, options, ['prompt']);
    refuseUnknownOptions(who, options, [...commonNames.filter((name) => !['model', 'tokenizer', 'policy'].includes(name)), 'prompt']);
    if (this.#busy) throw new UnrollError(`${who}: a turn is still running; finish or leave it first`);
    this.#busy = true;
    const { model, tokenizer } = this.#options;
    const cache = this.#cache;
    try {
      const full = { ...options, model, ...(tokenizer === undefined ? {} : { tokenizer }) };
      const { prompt, dropped } = this.#fit(who, options);
      const run = parseRun(who, full, [prompt]);
      const use = cacheUse(full);
      const reason = cache.refusal(use);
      if (reason !== undefined) throw new OptionError(`${who}: the session's policy cannot serve ${use}: ${reason}`);
      const { seed = 0, stateSeed = seed, initScale = 1 } = options;
      if (run.maxNewTokens[0] === 0) return;
      const whole = options.hook === undefined && !(options.exit?.inPrefill ?? false);
      const asked = whole ? { recurrences: run.depth(0), stateSeed, initScale } : undefined;
      const reused = this.#reusable(prompt, run.depth(0), asked);
      cache.truncate(reused, 0);
      const log = this.#log.slice(0, reused);
      this.#log = log;
      const later = model.contextLength - prompt.length - run.maxNewTokens[0]!;
      const [limit] = limitsFor(who, full, run, cache, { prompt: prompt.length - reused, limits: run.maxNewTokens, later });
      const lane = newLane(prompt, { seed, stateSeed, limit: limit! });
      const engine: Engine = { model, cache, initScale: run.initScale, hook: run.hook, signal: run.signal, tally: emptyTally() };
      const emitter = new Emitter(run, lane, cache, engine.tally, { cachedTokens: reused, droppedTokens: dropped });
      const stepwise = whole && options.exit === undefined && options.warmStart === undefined && options.wavefront === undefined;
      try {
        for await (const produced of strategyFor(engine, run, lane)) {
          const item = emitter.accept(produced);
          // A token is in the cache once the one behind it is known.
          for (let i = log.length; i < lane.tokens.length - 1; i++) {
            const decoded = i >= prompt.length;
            log.push({
              token: lane.tokens[i]!,
              recurrences: decoded ? item.recurrences : lane.promptRecurrences[i - reused]!,
              stateSeed,
              initScale,
              ...(decoded && run.warmStart !== undefined ? { warmStart: run.warmStart } : {}),
              ...(run.exit !== undefined && (decoded || run.exit.inPrefill !== false) ? { exit: run.exit.name } : {}),
              reproducible: decoded ? stepwise : whole,
            });
          }
          yield item;
        }
      } finally {
        // Whatever an abort left half done lies behind the log.
        cache.truncate(log.length, 0);
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Forgets the tokens from `length` on. */
  truncate(length: number): void {
    this.#idle('truncate');
    if (!Number.isInteger(length) || length < 0)
      throw new OptionError(`Session.truncate: length must be a whole number from 0; got ${length}`);
    this.#cache.truncate(length, 0);
    this.#log = this.#log.slice(0, length);
  }

  /** A session of its own with the same content. */
  fork(): Session {
    this.#idle('fork');
    const fork = new Session(this.#options, this.#cache.fork());
    fork.#log = [...this.#log];
    return fork;
  }

  /** Everything that `load` needs to go on: keys and values, tokens and how they came about. */
  async save(): Promise<SavedSession> {
    this.#idle('save');
    const { entries, keys, values, ...kind } = await this.#cache.save();
    const probe = await probeModel(this.#options.model);
    const log = this.#log.map(({ token: _, ...how }) => how);
    return {
      metadata: { format, cache: JSON.stringify(kind), log: JSON.stringify(log) },
      tensors: new Map([
        ['tokens', { shape: [this.#log.length], data: Int32Array.from(this.tokens) }],
        ['probe', { shape: [probe.length], data: probe }],
        ['entries', { shape: [entries.length / 4, 4], data: entries }],
        ['keys', { shape: [keys.length], data: keys }],
        ['values', { shape: [values.length], data: values }],
      ]),
    };
  }

  /** A session from what `save` gave. Throws OptionError when it is damaged, or the model or the policy is another. */
  static async load(options: SessionOptions, saved: SavedSession): Promise<Session> {
    const bad = (problem: string) => new OptionError(`Session.load: ${problem}`);
    if (saved.metadata.format !== format) throw bad(`the format is ${JSON.stringify(saved.metadata.format)}; expected ${format}`);
    const take = <T>(name: string, kind: new (...args: never[]) => T): T => {
      const data = saved.tensors.get(name)?.data;
      if (!(data instanceof kind)) throw bad(`"${name}" is missing or of another type; the file is damaged`);
      return data;
    };
    const [tokens, probe] = [take('tokens', Int32Array), take('probe', Float32Array)];
    const mine = await probeModel(options.model);
    const scale = Math.max(1e-3, ...mine.map(Math.abs));
    if (mine.length !== probe.length || mine.some((value, i) => !(Math.abs(value - probe[i]!) <= 1e-2 * scale)))
      throw bad('it was saved with another model; its keys mean nothing to this one');
    let kind: { policy: unknown; layers: unknown; lengths: number[] };
    let log: Omit<CachedToken, 'token'>[];
    try {
      kind = JSON.parse(saved.metadata.cache ?? '');
      log = JSON.parse(saved.metadata.log ?? '');
    } catch (error) {
      throw new OptionError('Session.load: its settings are not JSON; the file is damaged', { cause: error });
    }
    if (typeof kind !== 'object' || kind === null) throw bad('the settings of its cache are none; the file is damaged');
    if (!Array.isArray(log) || log.length !== tokens.length || !Array.isArray(kind.lengths) || kind.lengths[0] !== tokens.length)
      throw bad('tokens and keys do not belong together; the file is damaged');
    const sound = ({ recurrences, stateSeed, initScale, reproducible }: Omit<CachedToken, 'token'>) =>
      [recurrences, stateSeed, initScale].every((value) => typeof value === 'number') && typeof reproducible === 'boolean';
    if (!log.every((how) => typeof how === 'object' && how !== null && sound(how)))
      throw bad('the log of its tokens is not one; the file is damaged');
    const session = new Session(options);
    try {
      session.#cache.load({
        ...kind,
        entries: take('entries', Int32Array),
        keys: take('keys', Float32Array),
        values: take('values', Float32Array),
      });
      session.#log = log.map((how, i) => ({ ...how, token: tokens[i]! }));
      return session;
    } catch (error) {
      session.dispose();
      throw error;
    }
  }

  dispose(): void {
    this.#cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #idle(what: string): void {
    if (this.#busy) throw new UnrollError(`Session.${what}: a turn is still running; finish or leave it first`);
  }

  #fit(who: string, { prompt: asked, maxNewTokens }: TurnOptions): { prompt: readonly number[]; dropped: number } {
    const { model, tokenizer, contextFull } = this.#options;
    if (contextFull !== 'slide') return { prompt: promptTokens(who, model, tokenizer, asked), dropped: 0 };
    if (typeof asked === 'string' && tokenizer === undefined) return { prompt: promptTokens(who, model, tokenizer, asked), dropped: 0 };
    const tokens = typeof asked === 'string' ? tokenizer!.encode(asked) : asked;
    const room = model.contextLength - (maxNewTokens ?? Math.min(256, Math.floor(model.contextLength / 2)));
    if (room < 1)
      throw new OptionError(
        `${who}: ${maxNewTokens} new tokens leave no room for a prompt in the context of ${model.contextLength}; ask for fewer`,
      );
    const dropped = Math.max(0, tokens.length - room);
    return { prompt: promptTokens(who, model, tokenizer, tokens.slice(dropped)), dropped };
  }

  /** How many cached tokens the prompt begins with; the prompt's last token always runs, for its logits. */
  #reusable(
    prompt: readonly number[],
    depth: number,
    asked: Pick<CachedToken, 'recurrences' | 'stateSeed' | 'initScale'> | undefined,
  ): number {
    const approximate = this.#options.reuse === 'approximate';
    if (!approximate && this.#cache.refusal('parallel') !== undefined) return 0;
    const mixed = this.#cache.refusal('mixed-depth') === undefined;
    const fits = (cached: CachedToken, i: number) => {
      if (cached.token !== prompt[i]) return false;
      if (approximate) return mixed || cached.recurrences === depth;
      // From zeros, all seeds are one.
      const sameState = cached.initScale === asked?.initScale && (cached.initScale === 0 || cached.stateSeed === asked.stateSeed);
      return cached.reproducible && sameState && cached.recurrences === asked?.recurrences;
    };
    const differs = this.#log.findIndex((cached, i) => !fits(cached, i));
    return Math.min(differs < 0 ? this.#log.length : differs, prompt.length - 1);
  }
}

/** Some logits of a short run from the zero state: two models with equal ones are the same for our purposes. */
async function probeModel(model: LanguageModel): Promise<Float32Array> {
  const cache = model.createCache();
  try {
    const lane = newLane([0], { seed: 0 });
    const engine: Engine = { model, cache, initScale: 0, hook: undefined, signal: undefined, tally: emptyTally() };
    const thought = await think(engine, {
      lanes: [lane],
      tokens: Int32Array.of(0),
      positions: Int32Array.of(0),
      depth: 1,
      readout: 'last',
    });
    try {
      return (await thought.logits.data()).slice(0, 64);
    } finally {
      disposeThought(thought);
    }
  } finally {
    cache.dispose();
  }
}
