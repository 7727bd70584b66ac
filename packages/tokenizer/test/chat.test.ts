import { ChatTemplateError, parseTokenizer, TokenizerOptionError, trainByteLevelBPE } from '@unroll/tokenizer';
import { applyChatTemplate, HUGINN_CHAT_TEMPLATE, HUGINN_STOP_TOKENS } from '@unroll/tokenizer/chat';
import { describe, expect, test } from 'vitest';

const SPECIAL = ['<|begin_text|>', '<|end_text|>', '<|begin_header|>', '<|end_header|>', '<|end_turn|>', '<|pad|>'];
const json = trainByteLevelBPE([], { vocabSize: 256 + SPECIAL.length, specialTokens: SPECIAL });
const tokenizerWith = (chat_template?: unknown) =>
  parseTokenizer({ tokenizer: json, config: { bos_token: '<|begin_text|>', eos_token: { content: '<|end_text|>' }, chat_template } });

const conversation = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: '  2+3?\n' },
  { role: 'assistant', content: '5' },
  { role: 'user', content: 'Sure?' },
];
const HUGINN_TEXT =
  '<|begin_text|><|begin_header|>system<|end_header|>\n\nBe brief.<|end_turn|>' +
  '<|begin_header|>user<|end_header|>\n\n2+3?<|end_turn|>' +
  '<|begin_header|>Huginn<|end_header|>\n\n5<|end_turn|>' +
  '<|begin_header|>user<|end_header|>\n\nSure?<|end_turn|>';
const ANSWER = '<|begin_header|>Huginn<|end_header|>\n\n';

// As tokenizer_config.json of the published model has it.
const PUBLISHED =
  "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|begin_header|>' + message['role'] + " +
  "'<|end_header|>\n\n'+ message['content'] | trim + '<|end_turn|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}" +
  "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|begin_header|>Huginn<|end_header|>\n\n' }}{% endif %}";

describe.each([
  ['ours', HUGINN_CHAT_TEMPLATE],
  ['the published one', PUBLISHED],
])("Huginn's template, %s", (_, template) => {
  const tokenizer = tokenizerWith(template);

  test('renders, with the assistant under the name it was trained with', () => {
    expect(applyChatTemplate(tokenizer, conversation)).toBe(HUGINN_TEXT);
    expect(applyChatTemplate(tokenizer, conversation, { addGenerationPrompt: true })).toBe(HUGINN_TEXT + ANSWER);
    expect(applyChatTemplate(tokenizer, [{ role: 'Huginn', content: 'Hi' }])).toBe(`<|begin_text|>${ANSWER}Hi<|end_turn|>`);
    expect(applyChatTemplate(tokenizer, [{ role: 'assistant', content: 'Hi' }], { assistantRole: 'assistant' })).toContain(
      'assistant<|end_header|>',
    );
  });

  test('becomes special tokens once', () => {
    const tokens = tokenizer.encode(applyChatTemplate(tokenizer, conversation), { addSpecialTokens: false });
    const begin = tokenizer.idOf('<|begin_text|>');
    expect(tokens[0]).toBe(begin);
    expect(tokens.filter((token) => token === begin)).toHaveLength(1);
    expect(tokens.filter((token) => token === tokenizer.idOf('<|end_turn|>'))).toHaveLength(4);
    expect(HUGINN_STOP_TOKENS.map((token) => tokenizer.idOf(token))).toEqual([0, 1, 4]);
  });
});

describe('chat templates', () => {
  test('are chosen by name, by the presence of tools, or given', () => {
    const tokenizer = tokenizerWith([
      { name: 'default', template: 'D{{ messages | length }}' },
      { name: 'tool_use', template: 'T{{ tools | length }}' },
    ]);
    expect(applyChatTemplate(tokenizer, conversation)).toBe('D4');
    expect(applyChatTemplate(tokenizer, conversation, { tools: [{}, {}] })).toBe('T2');
    expect(applyChatTemplate(tokenizer, conversation, { tools: [{}], template: 'default' })).toBe('D4');
    expect(
      applyChatTemplate(tokenizer, conversation, { template: '{{ bos_token }}{{ mood }}{{ eos_token }}', variables: { mood: 'ok' } }),
    ).toBe('<|begin_text|>ok<|end_text|>');
  });

  test.each<[string, () => unknown, RegExp]>([
    ['none there', () => applyChatTemplate(tokenizerWith(), conversation), /has no chat_template; pass one/],
    [
      'a wrong name',
      () => applyChatTemplate(tokenizerWith('{{ 1 }}'), conversation, { template: 'tool' }),
      /"tool" is neither .* \(it has default\)/,
    ],
    [
      'no default',
      () => applyChatTemplate(tokenizerWith([{ name: 'a', template: 'x' }]), conversation),
      /no template is called "default"; choose one of a/,
    ],
    ['a syntax error', () => applyChatTemplate(tokenizerWith('{% if %}'), conversation), /does not parse/],
    [
      'a refusal',
      () => applyChatTemplate(tokenizerWith("{{ raise_exception('Roles must alternate') }}"), conversation),
      /refused the messages: .*Roles must alternate/,
    ],
  ])('complain clearly: %s', (_, run, message) => {
    expect(run).toThrow(ChatTemplateError);
    expect(run).toThrow(message);
  });

  test('refuse wrong arguments by name', () => {
    const tokenizer = tokenizerWith(HUGINN_CHAT_TEMPLATE);
    expect(() => applyChatTemplate(tokenizer, conversation, { add_generation_prompt: true } as object)).toThrow(
      /unknown option "add_generation_prompt"/,
    );
    expect(() => applyChatTemplate(tokenizer, 'Hi' as never)).toThrow(TokenizerOptionError);
    expect(() => applyChatTemplate(tokenizer, [{ content: 'Hi' } as never])).toThrow(/messages\[0\] must be \{ role/);
  });
});
