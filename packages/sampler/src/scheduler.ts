import { concat, OptionError, refuseUnknownOptions, reshape, slice, type Tensor, tidy, UnrollError } from '@unroll/tensor';
import { checkShapes } from './check.js';
import { Emitter, type GeneratedToken } from './emit.js';
import type { ExitRecord, ExitRule, ExitTest } from './exit.js';
import type { CacheUse, LanguageModel, ModelCache, TextCodec } from './language-model.js';
import { type CommonOptions, cacheUse, commonNames, parseRun, promptTokens, whole } from './options.js';
import { pause, pauseDue } from './pause.js';
import { requestOf } from './plain.js';
import { emptyTally, type Lane, newLane, type Run, type Tally } from './run.js';
import { chooseTokens } from './sampling.js';

export interface SchedulerOptions {
  readonly model: LanguageModel;
  readonly tokenizer?: TextCodec;
  /** Most requests that run at a time; others wait in line. */
  readonly sequences: number;
  readonly policy?: unknown;
  /** Picks the policy where none is given; `mixed-depth` when absent. */
  readonly use?: CacheUse;
  /** Tokens that a request may be ahead of its reader before it pauses; 32 when absent. */
  readonly readAhead?: number;
}

export type RequestOptions = Omit<CommonOptions, 'model' | 'tokenizer' | 'policy' | 'speculative' | 'wavefront' | 'hook'> & {
  readonly prompt: string | readonly number[];
};

/** Some positions of one request on their way through the core. */
interface Work {
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly depth: number;
  /** (1, T, C) */
  readonly e: Tensor;
  state: Tensor;
  loop: number;
  readonly test: ExitTest | undefined;
  readonly values: number[];
  record: ExitRecord | undefined;
  exited: boolean;
}

interface Job {
  readonly lane: Lane;
  readonly run: Run;
  readonly tally: Tally;
  readonly emitter: Emitter;
  readonly queue: GeneratedToken[];
  /** Tokens of the lane that have run. */
  done: number;
  work: Work | undefined;
  /** Final state (1, 1, C) of the last token, for warm starts. */
  last: Tensor | undefined;
  failure: { readonly error: unknown } | undefined;
}

interface Waiting {
  readonly prompt: readonly number[];
  readonly run: Run;
  readonly seeds: { readonly seed: number; readonly stateSeed: number };
  job: Job | undefined;
}

/** (1, T, C) -> (T, C) */
const flat = (state: Tensor): Tensor => reshape(state, state.shape.slice(1));

/**
 * Runs many requests over one model, whatever their depths: requests at different recurrences share each core pass, since the weights are
 * the same. They join and leave at any recurrence; prelude and coda run for whoever needs them. Every tick recurs all requests that
 * decode, and one group of prompts in turn, so that a long prompt holds nobody up. Each text equals the one that `generate` gives for the
 * request alone. Reading a request's iterator drives the ticks. An owner of its cache: dispose it.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #cache: ModelCache;
  readonly #free: number[];
  readonly #waiting: Waiting[] = [];
  readonly #jobs: Job[] = [];
  readonly #leaving = new Set<Job>();
  #ticking: Promise<void> | undefined;
  #turn = 0;
  #corePasses = 0;
  #corePositions = 0;

  /** Throws OptionError. */
  constructor(options: SchedulerOptions) {
    checkShapes('Scheduler', options, ['model', 'sequences']);
    refuseUnknownOptions('Scheduler', options, ['model', 'tokenizer', 'sequences', 'policy', 'use', 'readAhead']);
    const { model, policy, sequences, use = 'mixed-depth' } = options;
    whole('Scheduler', 'sequences', sequences, 1, 65536);
    whole('Scheduler', 'readAhead', options.readAhead ?? 32, 1, 2 ** 31);
    this.#options = options;
    this.#cache = model.createCache({ batch: sequences, use, ...(policy === undefined ? {} : { policy }) });
    this.#free = Array.from({ length: sequences }, (_, i) => sequences - 1 - i);
  }

  /** Core passes so far, and positions in them: their ratio says how much was shared. */
  stats(): { readonly corePasses: number; readonly corePositions: number; readonly running: number; readonly waiting: number } {
    return { corePasses: this.#corePasses, corePositions: this.#corePositions, running: this.#jobs.length, waiting: this.#waiting.length };
  }

  /** Adds a request. It runs while its tokens, or those of any other request, are read. Leaving the loop takes it out. Throws OptionError. */
  add(options: RequestOptions): AsyncGenerator<GeneratedToken, void, void> {
    const who = 'Scheduler.add';
    const not = ['model', 'tokenizer', 'policy', 'speculative', 'wavefront', 'hook'];
    checkShapes(who, options, ['prompt']);
    refuseUnknownOptions(who, options, [...commonNames.filter((name) => !not.includes(name)), 'prompt']);
    const { model, tokenizer } = this.#options;
    const full: CommonOptions = { ...options, model, ...(tokenizer === undefined ? {} : { tokenizer }) };
    const prompt = promptTokens(who, model, tokenizer, options.prompt);
    const run = parseRun(who, full, [prompt]);
    const use = cacheUse(full);
    const reason = this.#cache.refusal(use);
    if (reason !== undefined) throw new OptionError(`${who}: the scheduler's policy cannot serve ${use}: ${reason}`);
    const { seed = 0, stateSeed = seed } = options;
    const waiting: Waiting = { prompt, run, seeds: { seed, stateSeed }, job: undefined };
    if (run.maxNewTokens[0]! > 0) this.#waiting.push(waiting);
    return this.#read(waiting);
  }

  dispose(): void {
    for (const job of [...this.#jobs]) {
      job.failure ??= { error: new UnrollError('Scheduler: disposed while a request was running') };
      this.#leave(job);
    }
    this.#waiting.length = 0;
    this.#cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async *#read(waiting: Waiting): AsyncGenerator<GeneratedToken, void, void> {
    if (waiting.run.maxNewTokens[0] === 0) return;
    try {
      for (;;) {
        const { job } = waiting;
        const item = job?.queue.shift();
        if (item !== undefined) {
          yield item;
          if (item.finish !== undefined) return;
        } else if (job?.failure !== undefined) throw job.failure.error;
        else if (job === undefined && !this.#waiting.includes(waiting))
          throw new UnrollError('Scheduler: disposed while a request was waiting');
        else {
          waiting.run.signal?.throwIfAborted();
          // One tick at a time, whoever waits for it; whoever is added in the same turn takes part.
          this.#ticking ??= Promise.resolve()
            .then(() => this.#tick())
            .finally(() => {
              this.#ticking = undefined;
              for (const left of this.#leaving) this.#leave(left);
              this.#leaving.clear();
            });
          await this.#ticking;
        }
      }
    } finally {
      const at = this.#waiting.indexOf(waiting);
      if (at >= 0) this.#waiting.splice(at, 1);
      // A tick may be using the job's tensors.
      if (waiting.job !== undefined && this.#ticking !== undefined) this.#leaving.add(waiting.job);
      else if (waiting.job !== undefined) this.#leave(waiting.job);
    }
  }

  #leave(job: Job): void {
    const at = this.#jobs.indexOf(job);
    if (at < 0) return;
    this.#jobs.splice(at, 1);
    this.#endWork(job);
    job.last?.dispose();
    this.#cache.truncate(0, job.lane.sequence);
    this.#free.push(job.lane.sequence);
  }

  #endWork(job: Job): void {
    const { work } = job;
    job.work = undefined;
    if (work === undefined) return;
    work.e.dispose();
    work.state.dispose();
    work.test?.dispose();
  }

  async #tick(): Promise<void> {
    if (pauseDue()) await pause();
    this.#admit();
    for (const job of this.#jobs) {
      if (job.run.signal?.aborted) this.#fail(job, job.run.signal.reason);
    }
    for (const group of this.#byLength(this.#idle())) this.#embed(group);
    const groups = this.#byLength(this.#jobs.filter(({ work }) => work !== undefined));
    const prompts = groups.filter(([first]) => first!.work!.positions.length > 1);
    const turn = groups.filter(([first]) => first!.work!.positions.length === 1);
    if (prompts.length > 0) turn.push(prompts[this.#turn++ % prompts.length]!);
    for (const group of turn) {
      this.#recur(group);
      const asked = await Promise.all(group.map((job) => this.#ask(job)));
      const ready = group.filter(({ work }, i) => asked[i] && work !== undefined);
      if (ready.length > 0) await this.#readTokens(ready);
    }
  }

  #admit(): void {
    while (this.#free.length > 0 && this.#waiting.length > 0) {
      const waiting = this.#waiting.shift()!;
      const { prompt, run, seeds } = waiting;
      const lane = newLane(prompt, { ...seeds, sequence: this.#free.pop()!, limit: run.maxNewTokens[0]! });
      const tally = emptyTally();
      waiting.job = {
        lane,
        run,
        tally,
        emitter: new Emitter(run, lane, this.#cache, tally),
        queue: [],
        done: 0,
        work: undefined,
        last: undefined,
        failure: undefined,
      };
      this.#cache.markDecoded(prompt.length, lane.sequence);
      this.#jobs.push(waiting.job);
    }
  }

  /** Jobs that can take up their next positions. */
  #idle(): Job[] {
    const ahead = this.#options.readAhead ?? 32;
    return this.#jobs.filter(
      ({ work, lane, queue, failure }) => work === undefined && !lane.done && failure === undefined && queue.length < ahead,
    );
  }

  #byLength(jobs: readonly Job[]): Job[][] {
    const groups = new Map<number, Job[]>();
    for (const job of jobs) {
      const T = job.work?.positions.length ?? Math.min(job.run.prefillChunk, job.lane.tokens.length - job.done);
      groups.set(T, [...(groups.get(T) ?? []), job]);
    }
    return [...groups.values()];
  }

  /** e and the first states of the jobs' next positions; all have T of them. */
  #embed(jobs: readonly Job[]): void {
    const { model } = this.#options;
    const T = Math.min(jobs[0]!.run.prefillChunk, jobs[0]!.lane.tokens.length - jobs[0]!.done);
    const positions = jobs.map(({ done }) => Int32Array.from({ length: T }, (_, i) => done + i));
    const tokens = jobs.map(({ lane, done }) => Int32Array.from(lane.tokens.slice(done, done + T)));
    const made = tidy(model.device, () => {
      const pass = this.#cache.begin(
        Int32Array.from(positions.flatMap((row) => [...row])),
        jobs.map(({ lane }) => lane.sequence),
      );
      try {
        const e = model.prelude(
          model.device.tensor(
            tokens.flatMap((row) => [...row]),
            [jobs.length, T],
            { dtype: 'i32' },
          ),
          pass,
        );
        return jobs.map((job, b) => ({ e: slice(e, 0, b, b + 1), warm: this.#warmState(job) }));
      } finally {
        pass.dispose();
      }
    });
    jobs.forEach((job, b) => {
      const { lane, run } = job;
      const index = lane.tokens.length - lane.promptLength;
      const exit = index > 0 || run.exit?.inPrefill === true ? run.exit : undefined;
      const state = made[b]!.warm ?? this.#freshState(job, positions[b]!);
      const test = exit === undefined ? undefined : this.#beginTest(exit, state);
      job.work = {
        tokens: tokens[b]!,
        positions: positions[b]!,
        depth: run.depth(index),
        e: made[b]!.e,
        state,
        loop: 0,
        test,
        values: [],
        record: undefined,
        exited: false,
      };
    });
  }

  #beginTest(exit: ExitRule, state: Tensor): ExitTest {
    const start = flat(state);
    try {
      return exit.begin(start, this.#options.model);
    } finally {
      start.dispose();
    }
  }

  #warmState({ run, lane, done, last }: Job): Tensor | undefined {
    if (run.warmStart === undefined || last === undefined || done < lane.promptLength) return undefined;
    return run.warmStart === 'norm-state' ? this.#options.model.normState(last) : slice(last, 0, 0, 1);
  }

  #freshState({ lane, run }: Job, positions: Int32Array): Tensor {
    const { model } = this.#options;
    const pass = this.#cache.begin(positions, [lane.sequence]);
    try {
      return model.initialState(pass, { seed: [lane.stateSeed], scale: run.initScale });
    } finally {
      pass.dispose();
    }
  }

  /** One recurrence of all, each at its own loop. */
  #recur(jobs: readonly Job[]): void {
    const { model } = this.#options;
    const works = jobs.map(({ work }) => work!);
    const next = tidy(model.device, () => {
      const pass = this.#cache.begin(
        Int32Array.from(works.flatMap(({ positions }) => [...positions])),
        jobs.map(({ lane }) => lane.sequence),
      );
      try {
        const join = (parts: readonly Tensor[]) => (parts.length === 1 ? parts[0]! : concat(parts, 0));
        const state = model.step(
          join(works.map(({ e }) => e)),
          join(works.map((work) => work.state)),
          works.map(({ loop }) => loop),
          pass,
        );
        return works.map((_, b) => slice(state, 0, b, b + 1));
      } finally {
        pass.dispose();
      }
    });
    this.#corePasses++;
    works.forEach((work, b) => {
      work.state.dispose();
      work.state = next[b]!;
      work.loop++;
      jobs[b]!.tally.corePasses++;
      jobs[b]!.tally.corePositions += work.positions.length;
      this.#corePositions += work.positions.length;
    });
  }

  /** Whether a job's positions are deep enough. */
  async #ask(job: Job): Promise<boolean> {
    const { run } = job;
    const work = job.work!;
    const since = work.loop - (run.exit?.minRecurrences ?? 1);
    if (work.test !== undefined && since >= 0 && since % run.exit!.every === 0) {
      const lent: Tensor[] = [];
      const lend = <T extends Tensor>(tensor: T): T => {
        lent.push(tensor);
        return tensor;
      };
      try {
        const state = lend(flat(work.state));
        const { value, exit } = await work.test.check({ recurrence: work.loop, state, logits: () => lend(this.#logits([job])) });
        work.values.push(value);
        work.record = { rule: run.exit!.name, value: exit ? value : undefined, values: work.values };
        work.exited = exit;
      } catch (error) {
        this.#fail(job, error);
        return false;
      } finally {
        for (const tensor of lent) tensor.dispose();
      }
    }
    return work.exited || work.loop >= work.depth;
  }

  /** Logits (B, V) behind the last of the jobs' positions. */
  #logits(jobs: readonly Job[]): Tensor<'f32'> {
    const { model } = this.#options;
    const works = jobs.map(({ work }) => work!);
    return tidy(model.device, () => {
      const pass = this.#cache.begin(
        Int32Array.from(works.flatMap(({ positions }) => [...positions])),
        jobs.map(({ lane }) => lane.sequence),
      );
      try {
        const states = concat(
          works.map(({ state }) => state),
          0,
        );
        const logits = model.readout(states, pass, { positions: 'last' });
        return reshape(logits, [jobs.length, model.vocabularySize]) as Tensor<'f32'>;
      } finally {
        pass.dispose();
      }
    });
  }

  /** Coda, token and end of the positions that are deep enough. */
  async #readTokens(jobs: readonly Job[]): Promise<void> {
    const logits = this.#logits(jobs);
    try {
      for (const [b, job] of jobs.entries()) {
        const { lane, run } = job;
        const { positions, loop, record, state } = job.work!;
        job.done = positions[positions.length - 1]! + 1;
        job.last?.dispose();
        job.last = run.warmStart === undefined ? undefined : slice(state, 1, positions.length - 1, positions.length);
        this.#endWork(job);
        if (job.done < lane.tokens.length) continue;
        const row = slice(logits, 0, b, b + 1);
        try {
          const [choice] = await chooseTokens(row, [requestOf(lane)], run.sampling);
          job.queue.push(job.emitter.accept({ lane, ...choice!, recurrences: loop, exit: record }));
        } catch (error) {
          this.#fail(job, error);
        } finally {
          row.dispose();
        }
      }
    } finally {
      logits.dispose();
    }
  }

  /** The reader learns of it; the others go on. */
  #fail(job: Job, error: unknown): void {
    job.failure ??= { error };
    this.#endWork(job);
  }
}
