import { parseKVPolicy } from '@unroll/nn';
import {
  type CommonOptions,
  exitRule,
  type GeneratedToken,
  generate,
  type RecurrenceEvent,
  type RunReport,
  Session,
  type TurnOptions,
} from '@unroll/sampler';
import { DeviceLostError } from '@unroll/tensor';
import { applyChatTemplate, HUGINN_STOP_TOKENS } from '@unroll/tokenizer/chat';
import type { RunSettings, SharedSettings } from '../state/settings.js';
import type { EngineState, Loaded } from './engine.js';
import type { CallContext } from './host.js';
import { labelled, labelOf } from './labels.js';
import type { ChatArgs, Methods, RunSummary, TokenItem, WavefrontRound } from './protocol.js';

const ALTERNATIVES = 5;

/** The page's settings as options of `generate`. Throws OptionError for what cannot be combined. */
export function optionsOf(
  { model }: Loaded,
  shared: SharedSettings,
  run: RunSettings,
  inPrefill = true,
): Omit<CommonOptions, 'model' | 'tokenizer'> {
  const policy =
    run.policy === 'auto' ? undefined : run.policy === 'latest-compress' ? `latest-compress-s${model.config.coreLayers}` : run.policy;
  return {
    recurrences: run.depth,
    seed: shared.seed,
    initScale: shared.initScale,
    temperature: shared.temperature,
    alternatives: Math.min(ALTERNATIVES, model.vocabularySize),
    reports: 'every',
    ...(shared.topK > 0 ? { topK: shared.topK } : {}),
    ...(shared.topP < 1 ? { topP: shared.topP } : {}),
    ...(shared.minP > 0 ? { minP: shared.minP } : {}),
    ...(policy === undefined ? {} : { policy: parseKVPolicy(policy) }),
    ...(run.warm ? { warmStart: 'norm-state' as const } : {}),
    ...(run.strategy === 'adaptive' ? { exit: exitRule(run.exit, { threshold: run.threshold, inPrefill }) } : {}),
    ...(run.strategy === 'speculative'
      ? { speculative: { draftRecurrences: Math.min(run.draft, run.depth), lookahead: run.lookahead } }
      : {}),
    ...(run.strategy === 'wavefront' ? { wavefront: { innerRecurrences: run.inner, stateNoise: 0 } } : {}),
  };
}

/** How many tokens a run may add: what the page says, else what the model says, and never more than fits. */
function limitOf({ model, opened }: Loaded, shared: SharedSettings, promptLength: number): number {
  const wanted = shared.maxNewTokens > 0 ? shared.maxNewTokens : opened.maxNewTokens;
  return Math.max(0, Math.min(wanted, model.contextLength - promptLength));
}

/** Notes down the windows of a wavefront: every round begins with its first recurrence. */
function watchRounds(rounds: WavefrontRound[], promptLength: number): (event: RecurrenceEvent) => void {
  return ({ recurrence, positions }) => {
    const start = positions[0]!;
    // The prompt's own pass comes first, and begins at 0.
    if (recurrence === 1 && start >= promptLength) rounds.push({ start, width: positions.length });
  };
}

/** Sends tokens to the page as they come and makes the summary of a finished run. */
class Collector {
  readonly tokens: number[] = [];
  readonly rounds: WavefrontRound[] = [];
  readonly #started = performance.now();
  #text = '';
  #finish = 'length';
  #report: RunReport | undefined;

  constructor(
    private readonly loaded: Loaded,
    private readonly prompt: readonly number[],
    private readonly send: (item: TokenItem) => void,
  ) {}

  take({ token, text, logprob, recurrences, alternatives = [], exit, drafted, finish, report }: GeneratedToken): void {
    const { tokenizer } = this.loaded.opened;
    this.tokens.push(token);
    this.#text += text;
    if (finish !== undefined) this.#finish = finish;
    // Asked for with every token.
    this.#report = report!;
    this.send({
      token,
      text,
      label: labelOf(tokenizer, token),
      logprob,
      recurrences,
      alternatives: labelled(tokenizer, alternatives),
      at: performance.now() - this.#started,
      corePasses: this.#report.corePasses,
      kvBytes: this.#report.cache.logicalBytes,
      ...(exit === undefined ? {} : { exit: { rule: exit.rule, values: exit.values, stopped: exit.value !== undefined } }),
      ...(drafted === undefined ? {} : { drafted }),
    });
  }

  summary(recovered: number): RunSummary {
    const report = this.#report;
    if (report === undefined) throw new Error('the prompt leaves no room for an answer; shorten it');
    const milliseconds = performance.now() - this.#started;
    const { tokenizer } = this.loaded.opened;
    return {
      prompt: this.prompt,
      tokens: this.tokens,
      labels: [...this.prompt, ...this.tokens].map((token) => labelOf(tokenizer, token)),
      text: this.#text,
      finish: this.#finish,
      milliseconds,
      tokensPerSecond: this.tokens.length / (milliseconds / 1000),
      meanRecurrences: report.meanRecurrences,
      corePasses: report.corePasses,
      corePositions: report.corePositions,
      cachedTokens: report.cachedTokens,
      kvBytes: report.cache.logicalBytes,
      kvSlots: report.cache.slots,
      ...(report.speculation === undefined ? {} : { speculation: report.speculation }),
      ...(report.wavefront === undefined
        ? {}
        : { wavefront: { rounds: this.rounds, recurrences: report.wavefront.recurrencesPerPosition } }),
      recovered,
    };
  }
}

const MOST_LOSSES = 2;

/** One answer in one pane. When the device is lost meanwhile, the run is repeated on a new one; tokens that were sent are not sent again. */
export async function runGenerate(
  engine: EngineState,
  { shared, run }: Methods['generate']['args'],
  { signal, item }: CallContext<'generate'>,
): Promise<RunSummary> {
  const prompt = engine.tokenizer.encode(shared.prompt);
  let sent = 0;
  for (let losses = 0; ; losses++) {
    const { loaded } = engine;
    loaded.chosen.device.resetPeak();
    let seen = 0;
    const collector = new Collector(loaded, prompt, (token) => {
      if (++seen <= sent) return;
      sent = seen;
      item(token);
    });
    try {
      const tokens = generate({
        ...optionsOf(loaded, shared, run),
        model: loaded.model,
        tokenizer: engine.tokenizer,
        prompt,
        maxNewTokens: limitOf(loaded, shared, prompt.length),
        signal,
        ...(run.strategy === 'wavefront' ? { hook: watchRounds(collector.rounds, prompt.length) } : {}),
      });
      for await (const token of tokens) collector.take(token);
      return collector.summary(losses);
    } catch (error) {
      if (!(error instanceof DeviceLostError) || losses >= MOST_LOSSES) throw error;
      await engine.recover();
    }
  }
}

/** A conversation whose keys and values are kept between turns. */
export class Chat {
  #session: Session | undefined;
  #policy = '';

  constructor(private readonly engine: EngineState) {
    engine.onUnload.push(() => this.reset());
  }

  reset(): void {
    this.#session?.dispose();
    this.#session = undefined;
  }

  async reply({ messages, shared, run }: ChatArgs, { signal, item }: CallContext<'chat'>): Promise<RunSummary> {
    const { engine } = this;
    const { loaded, tokenizer } = engine;
    const prompt = this.#prompt(messages);
    // A prompt that exits early has keys of its own that a later turn could not use.
    const { policy, ...options } = optionsOf(loaded, shared, run, false);
    const use = run.strategy === 'wavefront' ? 'wavefront' : run.strategy === 'speculative' ? 'parallel' : 'mixed-depth';
    const key = JSON.stringify([policy ?? null, use]);
    if (this.#session === undefined || key !== this.#policy) {
      this.reset();
      this.#policy = key;
      this.#session = new Session({ model: loaded.model, tokenizer, use, ...(policy === undefined ? {} : { policy }) });
    }
    const known = tokenizer.chatTemplates.size > 0 ? HUGINN_STOP_TOKENS.flatMap((token) => tokenizer.idOf(token) ?? []) : [];
    const turn: TurnOptions = {
      ...options,
      prompt,
      stopTokens: [...new Set([...tokenizer.stopTokens, ...known])],
      maxNewTokens: limitOf(loaded, shared, prompt.length),
      signal,
    };
    const collector = new Collector(loaded, prompt, item);
    for await (const token of this.#session.generate(turn)) collector.take(token);
    return collector.summary(0);
  }

  /** The conversation in the model's template; without one, the last message alone. Leaves out the oldest turns until it fits. */
  #prompt(messages: ChatArgs['messages']): readonly number[] {
    const { loaded, tokenizer } = this.engine;
    if (tokenizer.chatTemplates.size === 0) return tokenizer.encode(messages[messages.length - 1]!.content);
    for (let dropped = 0; ; dropped += 2) {
      const kept = messages.slice(dropped).map((message) => ({ ...message }));
      const text = applyChatTemplate(tokenizer, kept, { addGenerationPrompt: true });
      const tokens = tokenizer.encode(text, { addSpecialTokens: false });
      if (tokens.length < loaded.model.contextLength || kept.length <= 2) return tokens;
    }
  }
}
