// A subpath of its own because of size: the Jinja interpreter (14.6 kB gzip) would double what encode and decode weigh (16 kB), and who
// only counts tokens should not load it.
import { Template } from '@huggingface/jinja';
import { ChatTemplateError, TokenizerOptionError } from './errors';
import { checkBoolean, describe, refuseUnknown } from './options';
import type { Tokenizer } from './tokenizer';

export interface ChatMessage {
  /** `system`, `user`, `assistant`, `tool`, or what the template knows. */
  role: string;
  /** Text, or what the template takes (a list of parts, null beside tool calls). */
  content?: unknown;
  /** Further members, which templates may read (`tool_calls`, `reasoning_content`, …). */
  [member: string]: unknown;
}

export interface ChatTemplateOptions {
  /** End with the opening of the assistant's turn, so that the model answers. Default false, as in `transformers`. */
  addGenerationPrompt?: boolean;
  /** Jinja source, or the name of a template of the tokenizer. Default: `tool_use` where tools are given and it exists, else `default`. */
  template?: string;
  /** Tools (JSON schemas) for templates that list them. */
  tools?: readonly unknown[];
  /** Documents for templates that quote them. */
  documents?: readonly unknown[];
  /** What the role `assistant` is called in the text. Default: `Huginn` for Huginn's template, which passes roles through; else unchanged. */
  assistantRole?: string;
  /** Further variables of the template, for example `{ enable_thinking: false }`. */
  variables?: Readonly<Record<string, unknown>>;
}

/**
 * The chat format that Huginn-0125 was trained on. Its tokenizer_config.json has it too; this is for checkpoints without one that use
 * Huginn's special tokens. Needs the tokenizer's `bos_token` to be `<|begin_text|>`.
 */
export const HUGINN_CHAT_TEMPLATE =
  '{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}' +
  "{{ '<|begin_header|>' + message['role'] + '<|end_header|>\n\n' + message['content'] | trim + '<|end_turn|>' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|begin_header|>Huginn<|end_header|>\n\n' }}{% endif %}";

/** The tokens that end a turn of Huginn (its model code stops at each); to be looked up with `tokenizer.idOf`. */
export const HUGINN_STOP_TOKENS: readonly string[] = ['<|begin_text|>', '<|end_text|>', '<|end_turn|>'];

const OPTIONS = ['addGenerationPrompt', 'template', 'tools', 'documents', 'assistantRole', 'variables'];
const compiled = new Map<string, Template>();
const MAX_COMPILED = 16;

function compile(source: string): Template {
  let template = compiled.get(source);
  if (!template) {
    try {
      template = new Template(source);
    } catch (error) {
      throw new ChatTemplateError(`applyChatTemplate: the template does not parse: ${(error as Error).message}`);
    }
    if (compiled.size >= MAX_COMPILED) compiled.clear();
    compiled.set(source, template);
  }
  return template;
}

function choose(templates: ReadonlyMap<string, string>, options: ChatTemplateOptions): string {
  const { template } = options;
  if (template !== undefined) {
    const named = templates.get(template);
    if (named !== undefined) return named;
    // A source without any tag would print the same text whatever the messages: surely a misspelt name.
    if (/\{[{%]/.test(template)) return template;
    const names = [...templates.keys()];
    throw new ChatTemplateError(
      `applyChatTemplate: ${describe(template)} is neither Jinja source nor a template of this tokenizer (it has ${names.join(', ') || 'none'})`,
    );
  }
  const found = (options.tools ? templates.get('tool_use') : undefined) ?? templates.get('default');
  if (found !== undefined) return found;
  const names = [...templates.keys()];
  throw new ChatTemplateError(
    names.length === 0
      ? 'applyChatTemplate: tokenizer_config.json has no chat_template; pass one as { template }'
      : `applyChatTemplate: no template is called "default"; choose one of ${names.join(', ')} as { template }`,
  );
}

function checkMessages(messages: readonly ChatMessage[]): void {
  if (!Array.isArray(messages)) throw new TokenizerOptionError(`applyChatTemplate: messages must be an array, got ${describe(messages)}`);
  messages.forEach((message: unknown, i) => {
    if (typeof message !== 'object' || message === null || typeof (message as ChatMessage).role !== 'string') {
      throw new TokenizerOptionError(`applyChatTemplate: messages[${i}] must be { role: string, content }, got ${describe(message)}`);
    }
  });
}

/**
 * Renders a conversation to the prompt that the model was trained on. Encode it with `{ addSpecialTokens: false }`: the template writes
 * the special tokens itself.
 *
 * @param tokenizer - its `chatTemplates` and `specialTokenTexts` are used
 * @throws ChatTemplateError where there is no template, it does not parse, or it refuses the messages
 */
export function applyChatTemplate(
  tokenizer: Pick<Tokenizer, 'chatTemplates' | 'specialTokenTexts'>,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions = {},
): string {
  refuseUnknown('applyChatTemplate', options, OPTIONS);
  checkBoolean('applyChatTemplate', 'addGenerationPrompt', options.addGenerationPrompt);
  checkMessages(messages);
  const source = choose(tokenizer.chatTemplates, options);
  const assistant = options.assistantRole ?? (source.includes('<|begin_header|>Huginn<|end_header|>') ? 'Huginn' : 'assistant');
  const named = messages.map((message) => (message.role === 'assistant' ? { ...message, role: assistant } : message));
  const template = compile(source);
  try {
    return template.render({
      ...tokenizer.specialTokenTexts,
      messages: named,
      add_generation_prompt: options.addGenerationPrompt ?? false,
      ...(options.tools ? { tools: options.tools } : {}),
      ...(options.documents ? { documents: options.documents } : {}),
      ...options.variables,
    });
  } catch (error) {
    throw new ChatTemplateError(`applyChatTemplate: the template refused the messages: ${(error as Error).message}`);
  }
}
