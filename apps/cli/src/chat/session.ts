import { writeFile } from 'node:fs/promises';
import { type GenerateOptions, generate } from '@unroll/sampler';
import type { Tokenizer } from '@unroll/tokenizer';
import { applyChatTemplate, HUGINN_STOP_TOKENS } from '@unroll/tokenizer/chat';
import { CommandError, UsageError } from '../errors.js';
import type { LoadedModel } from '../model/load.js';

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** What a reply needs of its surroundings. */
export interface Turn {
  readonly signal: AbortSignal;
  /** Lets a pending Ctrl-C be heard. */
  breathe(): Promise<void>;
  /** Tells the person something beside the reply. */
  note(text: string): void;
}

/** A conversation with a model: history, depth and seed, and the replies. */
export class ChatSession {
  readonly hasTemplate: boolean;
  readonly #tokenizer: Tokenizer;
  readonly #options: Partial<GenerateOptions>;
  #messages: Message[] = [];
  #system: string | undefined;
  depth: number;
  seed: number;

  /** Throws CommandError for a model without a tokenizer, UsageError for a system prompt that the model has no place for. */
  constructor(
    readonly loaded: LoadedModel,
    options: Partial<GenerateOptions>,
    system?: string,
  ) {
    const { tokenizer, model, name } = loaded;
    if (tokenizer === undefined)
      throw new CommandError(`"${name}" has no tokenizer.json; chat works on text, so give a model that has one`);
    const { recurrences, seed, ...rest } = options;
    this.#tokenizer = tokenizer;
    this.#options = rest;
    this.hasTemplate = tokenizer.chatTemplates.size > 0;
    this.depth = typeof recurrences === 'number' ? recurrences : model.meanRecurrence;
    this.seed = seed ?? 0;
    if (system !== undefined) this.system = system;
  }

  get messages(): readonly Message[] {
    return this.#system === undefined ? this.#messages : [{ role: 'system', content: this.#system }, ...this.#messages];
  }

  set system(text: string | undefined) {
    if (text !== undefined && !this.hasTemplate)
      throw new UsageError('this model has no chat template, so a system prompt has no place in its input');
    this.#system = text;
  }

  get system(): string | undefined {
    return this.#system;
  }

  clear(): void {
    this.#messages = [];
  }

  /**
   * Streams the reply to a message. When `signal` aborts, the reply ends and stays in the history as far as it came; when anything
   * else fails, the message is taken back.
   */
  async *reply(text: string, { signal, breathe, note }: Turn): AsyncGenerator<string> {
    const before = this.#messages;
    this.#messages = [...before, { role: 'user', content: text }];
    let content = '';
    try {
      const { tokens, dropped } = this.#prompt(text);
      if (dropped > 0)
        note(
          `the conversation exceeds the context of ${this.loaded.model.contextLength} tokens; the oldest ${dropped} messages were left out`,
        );
      for await (const item of generate(this.#generateOptions(tokens, signal))) {
        content += item.text;
        yield item.text;
        await breathe();
      }
    } catch (error) {
      if (!signal.aborted) {
        this.#messages = before;
        throw error;
      }
    }
    this.#messages = [...this.#messages, { role: 'assistant', content }];
  }

  /** Writes the conversation as JSON. Refuses to overwrite. Throws CommandError. */
  async save(path: string): Promise<void> {
    const { depth, seed, loaded, messages } = this;
    const text = `${JSON.stringify({ model: loaded.name, depth, seed, messages }, null, 2)}\n`;
    try {
      await writeFile(path, text, { flag: 'wx' });
    } catch (error) {
      const exists = (error as NodeJS.ErrnoException).code === 'EEXIST';
      throw new CommandError(
        exists ? `"${path}" exists already; name another file` : `"${path}" cannot be written: ${(error as Error).message}`,
      );
    }
  }

  #generateOptions(prompt: readonly number[], signal: AbortSignal): GenerateOptions {
    const { model, maxNewTokens } = this.loaded;
    const room = model.contextLength - prompt.length;
    const limit = this.#options.maxNewTokens ?? maxNewTokens ?? 256;
    const known = this.hasTemplate ? HUGINN_STOP_TOKENS.flatMap((token) => this.#tokenizer.idOf(token) ?? []) : [];
    return {
      ...this.#options,
      model,
      tokenizer: this.#tokenizer,
      prompt,
      recurrences: this.depth,
      seed: this.seed,
      maxNewTokens: Math.min(limit, Math.max(0, room)),
      stopTokens: [...new Set([...this.#tokenizer.stopTokens, ...known])],
      signal,
    };
  }

  /** The model's input: the conversation in its template, or without one the message alone. Leaves out oldest messages until it fits. */
  #prompt(text: string): { tokens: number[]; dropped: number } {
    if (!this.hasTemplate) return { tokens: this.#tokenizer.encode(text), dropped: 0 };
    const { contextLength } = this.loaded.model;
    const system: Message[] = this.#system === undefined ? [] : [{ role: 'system', content: this.#system }];
    for (let dropped = 0; ; dropped += 2) {
      const kept = this.#messages.slice(dropped);
      const rendered = applyChatTemplate(this.#tokenizer, [...system, ...kept.map((message) => ({ ...message }))] as never, {
        addGenerationPrompt: true,
      });
      const tokens = this.#tokenizer.encode(rendered, { addSpecialTokens: false });
      if (tokens.length < contextLength || kept.length <= 1) return { tokens, dropped };
    }
  }
}
