import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { loadEmbedded } from '@unroll/pretrained';
import { describe, expect, it, vi } from 'vitest';
import { ChatSession } from '../src/chat/session.js';
import { loadModel } from '../src/model/load.js';
import { runCli } from '../src/run.js';
import { adderFolder, fakeIo, temporaryFolder, unroll } from './support.js';

// Conversations in the adder's own alphabet: contents one after the other, a line end behind each answer.
const TEMPLATE =
  "{% for message in messages %}{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ '\n' }}{% endif %}{% endfor %}";

async function templated(): Promise<string> {
  const { tokenizerConfig } = await loadEmbedded('adder');
  return adderFolder({ 'tokenizer_config.json': JSON.stringify({ ...(tokenizerConfig as object), chat_template: TEMPLATE }) });
}

/** Runs a session and gives the texts that the model was sent. */
async function session(folder: string | undefined, use: (session: ChatSession) => Promise<void>, system?: string): Promise<string[]> {
  const loaded = await loadModel({ model: folder }, fakeIo());
  const encode = vi.spyOn(loaded.tokenizer!, 'encode');
  try {
    await use(new ChatSession(loaded, { initScale: 0 }, system));
    expect(loaded.device.memory().bytes.kv).toBe(0);
  } finally {
    await loaded.dispose();
  }
  return encode.mock.calls.map(([text]) => text);
}

async function read(pieces: AsyncIterable<string>): Promise<string> {
  let text = '';
  for await (const piece of pieces) text += piece;
  return text;
}

function turn(signal = new AbortController().signal) {
  const notes: string[] = [];
  return { signal, breathe: async () => undefined, note: (text: string) => void notes.push(text), notes };
}

describe('a session', () => {
  it('puts the conversation, system prompt first, through the chat template', async () => {
    let first = '';
    const use = async (chat: ChatSession) => {
      expect(chat.hasTemplate).toBe(true);
      first = await read(chat.reply('731+94=', turn()));
      await read(chat.reply('2+2=', turn()));
      expect(chat.messages.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user', 'assistant']);
    };
    const sent = await session(await templated(), use, '1+1=2\n');
    expect(sent).toEqual(['1+1=2\n731+94=', `1+1=2\n731+94=${first}\n2+2=`]);
  });

  it('sends a message alone where there is no template, and has no place for a system prompt', async () => {
    const sent = await session(undefined, async (chat) => {
      expect(chat.hasTemplate).toBe(false);
      expect(await read(chat.reply('731+094=', turn()))).toBe('0825');
      expect(await read(chat.reply('2+2=', turn()))).toBe('04');
      expect(() => {
        chat.system = 'be kind';
      }).toThrow(/no chat template/);
    });
    expect(sent).toEqual(['731+094=', '2+2=']);
  });

  it('leaves the oldest messages out when the context is full, and says so', async () => {
    await session(await templated(), async (chat) => {
      const now = turn();
      for (let i = 0; i < 8; i++) await read(chat.reply('12345+54321=', now));
      expect(now.notes[0]).toMatch(/exceeds the context of 64 tokens; the oldest \d+ messages were left out/);
      expect(chat.messages).toHaveLength(16);
    });
  });

  it('keeps what there is of an interrupted reply, and goes on', async () => {
    await session(undefined, async (chat) => {
      const controller = new AbortController();
      let text = '';
      for await (const piece of chat.reply('731+094=', turn(controller.signal))) {
        text += piece;
        controller.abort();
      }
      expect(text).toBe('0');
      expect(chat.messages).toEqual([
        { role: 'user', content: '731+094=' },
        { role: 'assistant', content: '0' },
      ]);
      expect(await read(chat.reply('731+094=', turn()))).toBe('0825');
    });
  });

  it('takes a message back that the model cannot read', async () => {
    await session(undefined, async (chat) => {
      await expect(read(chat.reply('hello', turn()))).rejects.toThrow(/"h"/);
      expect(chat.messages).toEqual([]);
    });
  });
});

describe('chat from a pipe', () => {
  it('answers line by line, takes commands, and tells the truth in the exit code', async () => {
    const file = join(temporaryFolder(), 'saved.json');
    const stdin = `086+808=\n/depth 1\n086+808=\n/seed 5\n\n/save ${file}\n/exit\n1+1=\n`;
    const { code, out, err } = await unroll(['chat', '--init-scale', '0'], { stdin });
    expect([code, out]).toEqual([0, '0894\n0904\n']);
    expect(err).toContain('no chat template');
    expect(err).toContain('depth 1\n');
    expect(JSON.parse(await readFile(file, 'utf8'))).toEqual({
      model: 'reckoner (embedded)',
      depth: 1,
      seed: 5,
      messages: [
        { role: 'user', content: '086+808=' },
        { role: 'assistant', content: '0894' },
        { role: 'user', content: '086+808=' },
        { role: 'assistant', content: '0904' },
      ],
    });
  });

  it('goes on after a bad line, and ends with 1', async () => {
    const existing = join(temporaryFolder(), 'there.json');
    await writeFile(existing, 'mine');
    const lines = ['/depht 3', '/depth 0', '/depth', '/save', `/save ${existing}`, '/system be kind', 'what?', '2+2='];
    const { code, out, err } = await unroll(['chat', '--init-scale', '0'], { stdin: `${lines.join('\n')}\n` });
    expect([code, out]).toEqual([1, '04\n']);
    const errors = err.split('\n').filter((line) => line.startsWith('error '));
    expect(errors).toHaveLength(7);
    expect(errors[0]).toContain('did you mean /depth?');
    expect(errors[1]).toContain('whole number from 1 to 65536');
    expect(errors[4]).toContain('exists already');
    expect(await readFile(existing, 'utf8')).toBe('mine');
  });

  it('sets the system prompt, and takes it away where no text follows', async () => {
    const files = ['with.json', 'without.json'].map((name) => join(temporaryFolder(), name)) as [string, string];
    const stdin = `/system 1+1=2\n/save ${files[0]}\n/system\n/save ${files[1]}\n`;
    expect((await unroll(['chat', '--model', await templated()], { stdin })).code).toBe(0);
    const [first, second] = await Promise.all(
      files.map(async (file) => (JSON.parse(await readFile(file, 'utf8')) as { messages: unknown[] }).messages),
    );
    expect([first, second]).toEqual([[{ role: 'system', content: '1+1=2' }], []]);
  });

  it('forgets on /clear and lists its commands on /help', async () => {
    const file = join(temporaryFolder(), 'saved.json');
    const { err } = await unroll(['chat'], { stdin: `1+1=\n/clear\n/help\n/save ${file}\n` });
    expect(err).toContain('/system TEXT');
    expect((JSON.parse(await readFile(file, 'utf8')) as { messages: unknown[] }).messages).toEqual([]);
  });
});

describe('chat on a terminal', () => {
  /** Types at a chat whose prompts are drawn on a fake terminal; each step waits for its text on the screen. */
  async function typing(
    argv: readonly string[],
    steps: readonly (readonly [RegExp, string | 'interrupt'])[],
  ): Promise<{ code: number; screen: string }> {
    const base = fakeIo({ tty: true, stdinTTY: true });
    let screen = '';
    const input = new PassThrough();
    const output = Object.assign(
      new Writable({
        write(chunk: Buffer, _, done) {
          screen += chunk.toString();
          done();
        },
      }),
      { columns: 100, rows: 40, isTTY: true },
    );
    const show = (text: string): void => {
      screen += text;
    };
    const io = { ...base, stdout: { ...base.stdout, write: show }, terminal: { input, output } };
    const running = runCli(['chat', '--init-scale', '0', ...argv], io);
    for (const [shown, keys] of steps) {
      const from = screen.length;
      await vi.waitFor(() => expect(screen.slice(Math.max(0, from - 400))).toMatch(shown), { timeout: 10_000, interval: 5 });
      if (keys === 'interrupt') await vi.waitFor(() => expect(base.interrupt()).toBe(true), { timeout: 10_000, interval: 1 });
      else input.write(keys);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    return { code: await running, screen };
  }

  it('answers, takes commands and leaves', async () => {
    const { code, screen } = await typing(
      [],
      [
        [/You/, '731+094=\r'],
        [/0825/, '/depth 2\r'],
        [/depth 2/, '/exit\r'],
      ],
    );
    expect(code).toBe(0);
    expect(screen).toContain('no chat template');
    expect(screen).toContain('0825');
    expect(screen).toContain('Goodbye');
  });

  it('leaves on Ctrl-D in an empty line, not on one in a text', async () => {
    const { code, screen } = await typing(
      [],
      [
        [/You/, '731+094==\u001b[D\u0004'],
        [/731\+094=/, '\r'],
        [/0825/, '\u0004'],
      ],
    );
    expect(code).toBe(0);
    expect(screen).toContain('Goodbye');
    expect(screen.lastIndexOf('\u001b[?25h')).toBeGreaterThan(screen.lastIndexOf('\u001b[?25l'));
  });

  it('ends a reply on Ctrl-C and keeps the conversation; leaves with 130 on two at the prompt', async () => {
    const file = join(temporaryFolder(), 'saved.json');
    const { code, screen } = await typing(
      ['--depth', '400'],
      [
        [/You/, '731+094=\r'],
        [/731\+094=/, 'interrupt'],
        [/interrupted/, `/save ${file}\r`],
        [/saved to/, '\u0003'],
        [/once more leaves/, '\u0003'],
      ],
    );
    expect(code).toBe(130);
    expect(screen).toContain('interrupted');
    const { messages } = JSON.parse(await readFile(file, 'utf8')) as { messages: { content: string }[] };
    expect(messages).toHaveLength(2);
    expect('0825'.startsWith(messages[1]!.content)).toBe(true);
    expect(messages[1]!.content).not.toBe('0825');
  });
});
