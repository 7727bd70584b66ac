import { concat, OptionError, refuseUnknownOptions, reshape, slice, type Tensor, tidy, UnrollError } from '@unroll/tensor';
import { checkShapes } from './check.js';
import { Emitter, type GeneratedToken } from './emit.js';
import type { ExitRule } from './exit.js';
import { ExitWatch, readNumbers, type Sight } from './exit-watch.js';
import type { CacheUse, LanguageModel, ModelCache, TextCodec } from './language-model.js';
import { type CommonOptions, cacheUse, commonNames, parseRun, promptTokens, whole } from './options.js';
import { pause, pauseDue } from './pause.js';
import { requestOf } from './plain.js';
import { emptyTally, newLane } from './run.js';
import { chooseTokens } from './sampling.js';
import { type Asked, type Flight, finalState, flat, isDeep, type Job, mostFlights, type Waiting, type Work } from './scheduler-work.js';

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

const severalTokens = 'it runs several tokens of one text in a pass, and requests share each pass with one token each';
const sharedHook = 'requests share each pass, so a hook would see the states of others';

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
  readonly #flights: Flight[] = [];
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
    for (const name of ['speculative', 'wavefront', 'hook']) {
      if ((options as Record<string, unknown>)[name] !== undefined)
        throw new OptionError(`${who}: ${name} cannot be scheduled: ${name === 'hook' ? sharedHook : severalTokens}`);
    }
    refuseUnknownOptions(who, options, [...commonNames.filter((name) => !not.includes(name)), 'prompt']);
    const { model, tokenizer } = this.#options;
    const full: CommonOptions = { ...options, model, ...(tokenizer === undefined ? {} : { tokenizer }) };
    const prompt = promptTokens(who, model, tokenizer, options.prompt);
    const run = parseRun(who, full, [prompt]);
    if (run.exit?.inPrefill === 'positions')
      throw new OptionError(
        `${who}: exit with inPrefill "positions" cannot be scheduled: prompts share passes row by row, so the positions of one cannot leave alone`,
      );
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
    work.journal?.close();
    work.watch?.dispose();
  }

  async #tick(): Promise<void> {
    if (pauseDue()) await pause();
    this.#admit();
    for (const job of this.#jobs) {
      if (job.run.signal?.aborted) this.#fail(job, job.run.signal.reason);
    }
    for (const group of this.#byLength(this.#idle())) this.#embed(group);
    const groups = this.#byLength(this.#jobs.filter(({ work }) => work !== undefined && !isDeep(work)));
    const prompts = groups.filter(([first]) => first!.work!.positions.length > 1);
    const turn = groups.filter(([first]) => first!.work!.positions.length === 1);
    if (prompts.length > 0) turn.push(prompts[this.#turn++ % prompts.length]!);
    for (const group of turn) this.#recur(group);
    await this.#ask(turn.flat());
    const ready = this.#jobs.filter((job) => this.#endWatch(job));
    for (const group of this.#byLength(ready)) await this.#readTokens(group);
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
    // What a request brings with it, a rule or a depth by token, may throw: the others are on their way.
    jobs.forEach((job, b) => {
      try {
        job.work = this.#begin(job, { tokens: tokens[b]!, positions: positions[b]! }, made[b]!);
      } catch (error) {
        this.#fail(job, error);
      }
    });
  }

  /** The work of a job whose e is made; where it throws, e and the warm state are given back. */
  #begin(
    job: Job,
    { tokens, positions }: Pick<Work, 'tokens' | 'positions'>,
    { e, warm }: { readonly e: Tensor; readonly warm: Tensor | undefined },
  ): Work {
    const { lane, run } = job;
    let state = warm;
    let watch: ExitWatch | undefined;
    try {
      const index = lane.tokens.length - lane.promptLength;
      const exit = index > 0 || run.exit?.inPrefill === true ? run.exit : undefined;
      state ??= this.#freshState(job, positions);
      const depth = run.depth(index);
      watch = exit === undefined ? undefined : this.#watch(exit, depth, state);
      const onDevice = exit?.readEvery !== undefined || this.#options.model.device.kind !== 'cpu';
      const later = watch?.patient === true && positions.length === 1 && onDevice;
      const journal = later ? this.#cache.openJournal?.(lane.sequence) : undefined;
      return { tokens, positions, depth, e, state, loop: 0, watch, journal };
    } catch (error) {
      e.dispose();
      state?.dispose();
      watch?.dispose();
      throw error;
    }
  }

  #watch(exit: ExitRule, depth: number, state: Tensor): ExitWatch {
    const { model } = this.#options;
    return tidy(model.device, () => new ExitWatch(exit, depth, flat(state), model));
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
        const loops = works.map(({ loop }) => loop);
        const state = model.step(
          join(works.map(({ e }) => e)),
          join(works.map((work) => work.state)),
          loops.every((loop) => loop === loops[0]) ? loops[0]! : loops,
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

  /**
   * Asks the rules of jobs that have just recurred. All their numbers come back in one reading, which is waited for when a job can go no
   * further without it; meanwhile further recurrences are on their way, and are taken back where they turn out to be too many.
   */
  async #ask(jobs: readonly Job[]): Promise<void> {
    const asked: Asked[] = [];
    const plainly: Promise<void>[] = [];
    for (const job of jobs) {
      const work = job.work!;
      const { watch, journal, loop } = work;
      if (watch === undefined || !watch.asks(loop)) continue;
      const mark = () => journal?.mark() ?? 0;
      const see = (): Sight => {
        const state = flat(work.state);
        return { state, own: state, logits: () => this.#logits([job]), mark };
      };
      const failed = (error: unknown) => this.#fail(job, error);
      if (!watch.patient) plainly.push(watch.check(loop, see).then(() => undefined, failed));
      else {
        try {
          asked.push({ job, work, number: watch.measure(loop, see), mark: mark() });
        } catch (error) {
          failed(error);
        }
      }
    }
    if (asked.length > 0) {
      try {
        this.#flights.push({ asked, numbers: readNumbers(asked.map(({ number }) => number)) });
      } catch (error) {
        for (const { job } of asked) this.#fail(job, error);
      }
    }
    await Promise.all(plainly);
    const waits = ({ job, work }: Asked) =>
      job.work === work && work.watch!.ended === undefined && (work.journal === undefined || isDeep(work));
    while (this.#flights.length > 0) {
      const somebody = jobs.length === 0 || this.#flights.some((flight) => flight.asked.some(waits));
      if (!somebody && this.#flights.length < mostFlights) return;
      const flight = this.#flights.shift()!;
      const numbers = await flight.numbers.catch((error: unknown) => {
        for (const { job, work } of flight.asked) if (job.work === work) this.#fail(job, error);
        return [];
      });
      for (const [i, { job, work, mark }] of flight.asked.entries()) {
        const watch = work.watch!;
        if (job.work !== work || watch.ended !== undefined) continue;
        try {
          if (watch.settle(numbers[i]!)) work.journal?.rollback(watch.ended!.mark);
          else work.journal?.commit(mark);
        } catch (error) {
          this.#fail(job, error);
        }
      }
    }
  }

  /** Whether a job's positions are deep enough and everything about them is known. */
  #endWatch({ work }: Job): boolean {
    if (work === undefined) return false;
    const { watch } = work;
    if (watch === undefined || watch.ended !== undefined) return watch !== undefined || isDeep(work);
    if (!isDeep(work) || watch.waiting) return false;
    tidy(this.#options.model.device, () => watch.end(flat(work.state)));
    return true;
  }

  /** Logits (B, V) behind the last of the jobs' positions. */
  #logits(jobs: readonly Job[]): Tensor<'f32'> {
    const { model } = this.#options;
    return tidy(model.device, () => {
      const pass = this.#cache.begin(
        Int32Array.from(jobs.flatMap(({ work }) => [...work!.positions])),
        jobs.map(({ lane }) => lane.sequence),
      );
      try {
        const logits = model.readout(
          concat(
            jobs.map(({ work }) => finalState(work!)),
            0,
          ),
          pass,
          { positions: 'last' },
        );
        return reshape(logits, [jobs.length, model.vocabularySize]) as Tensor<'f32'>;
      } finally {
        pass.dispose();
      }
    });
  }

  /** Coda, token and end of the positions that are deep enough; all have as many of them. */
  async #readTokens(jobs: readonly Job[]): Promise<void> {
    const { model } = this.#options;
    // Rules that read logits have read the last ones already.
    const unread = jobs.filter(({ work }) => work!.watch?.ended?.logits === undefined);
    const read = unread.length === 0 ? undefined : this.#logits(unread);
    const choosing: Promise<void>[] = [];
    try {
      for (const job of jobs) {
        const { lane, run, work } = job;
        const { positions, loop, watch } = work!;
        const { row, last } = tidy(model.device, () => {
          const at = unread.indexOf(job);
          const own = watch?.ended?.logits;
          return {
            row: at >= 0 ? slice(read!, 0, at, at + 1) : (reshape(own!, own!.shape) as Tensor<'f32'>),
            last: run.warmStart === undefined ? undefined : slice(finalState(work!), 1, positions.length - 1, positions.length),
          };
        });
        const recurrences = watch?.ended?.recurrence ?? loop;
        job.done = positions[positions.length - 1]! + 1;
        lane.promptRecurrences.push(
          ...Array.from(positions)
            .filter((position) => position < lane.promptLength)
            .map(() => recurrences),
        );
        job.last?.dispose();
        job.last = last;
        this.#endWork(job);
        if (job.done < lane.tokens.length) {
          row.dispose();
          continue;
        }
        choosing.push(
          chooseTokens(row, [requestOf(lane)], run.sampling)
            .then(([choice]) => {
              job.queue.push(job.emitter.accept({ lane, ...choice!, recurrences, exit: watch?.record }));
            })
            .catch((error: unknown) => this.#fail(job, error))
            .finally(() => row.dispose()),
        );
      }
      await Promise.all(choosing);
    } finally {
      read?.dispose();
    }
  }

  /** The reader learns of it; the others go on. */
  #fail(job: Job, error: unknown): void {
    job.failure ??= { error };
    this.#endWork(job);
  }
}
