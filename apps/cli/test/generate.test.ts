import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCli } from '../src/run.js';
import { adderFolder, fakeIo, jsonLines, temporaryFolder, unroll } from './support.js';

describe('generate', () => {
  it('answers a sum given as argument', async () => {
    const { code, out, err } = await unroll(['generate', '731+094=', '--init-scale', '0']);
    expect([code, out, err]).toEqual([0, '0825\n', '']);
  });

  it('reads the prompt from a pipe, without the line end at its end', async () => {
    expect(await unroll(['generate', '--init-scale', '0'], { stdin: '731+094=\n' })).toEqual({ code: 0, out: '0825\n', err: '' });
  });

  it('prints one JSON object a token, with finish and report on the last alone', async () => {
    const { out } = await unroll(['generate', '731+094=', '--init-scale', '0', '--depth', '4', '--json']);
    const items = jsonLines(out);
    expect(items.map(({ token }) => token)).toEqual([1, 9, 3, 6, 0]);
    expect(items.map(({ text }) => text).join('')).toBe('0825');
    expect(items.map(({ recurrences }) => recurrences)).toEqual([4, 4, 4, 4, 4]);
    expect(items.map(({ finish }) => finish)).toEqual([undefined, undefined, undefined, undefined, 'stop-token']);
    expect(items.every(({ logprob }) => typeof logprob === 'number' && logprob <= 0)).toBe(true);
    expect(items[4]!.report).toMatchObject({ promptTokens: 8, newTokens: 5, meanRecurrences: 4 });
  });

  it('gives other answers at other depths', async () => {
    const at = async (depth: string) => (await unroll(['generate', '086+808=', '--init-scale', '0', '--depth', depth])).out.trim();
    expect([await at('1'), await at('2')]).toEqual(['0904', '0894']);
  });

  it('draws the same text for the same seed, and others for other seeds', async () => {
    const draw = async (seed: string) => (await unroll(['generate', '1', '--temperature', '3', '--seed', seed, '-n', '12'])).out;
    const texts = await Promise.all(['1', '2', '3', '4'].map(draw));
    expect(await draw('1')).toBe(texts[0]);
    expect(new Set(texts).size).toBeGreaterThan(1);
  });

  it('ends before a stop text, of which there may be several', async () => {
    expect((await unroll(['generate', '731+094=', '--init-scale', '0', '--stop', '5', '--stop', '25'])).out).toBe('08\n');
  });

  it('lists alternatives with --json', async () => {
    const [first] = jsonLines((await unroll(['generate', '731+94=', '--alternatives', '3', '--json'])).out);
    expect(first!.alternatives).toHaveLength(3);
  });

  it('takes token ids where there is no tokenizer, and prints ids', async () => {
    const folder = await adderFolder({ 'tokenizer.json': null, 'tokenizer_config.json': null, 'generation_config.json': null });
    const { code, out } = await unroll(['generate', '--model', folder, '--tokens', '10,6,4,1,12,7,2', '--init-scale', '0', '-n', '4']);
    expect([code, out]).toEqual([0, '11 5 8 0 \n']);
  });

  it('loads a named weight file', async () => {
    const folder = await adderFolder();
    const { weights } = await (await import('@unroll/pretrained')).loadEmbedded('adder');
    await writeFile(join(folder, 'other.safetensors'), weights);
    const { code, out } = await unroll(['generate', '2+2=', '--model', folder, '--weights', 'other.safetensors', '--init-scale', '0']);
    expect([code, out]).toEqual([0, '4\n']);
  });

  it('shows the prompt on a terminal, and no colours where NO_COLOR is set', async () => {
    expect((await unroll(['generate', '2+2=', '--init-scale', '0'], { tty: true })).out).toContain('\u001b[2m2+2=\u001b[22m04\n');
    expect((await unroll(['generate', '2+2=', '--init-scale', '0'], { tty: true, env: { NO_COLOR: '1' } })).out).toBe('2+2=04\n');
  });
});

describe('the program', () => {
  it('prints usage texts that never suggest a registry download', async () => {
    for (const argv of [
      ['--help'],
      ['help'],
      ...['generate', 'chat', 'inspect', 'eval', 'compare', 'parity', 'estimate', 'convert', 'make-checkpoint', 'bench', 'train'].map(
        (name) => [name, '--help'],
      ),
    ]) {
      const { code, out } = await unroll(argv);
      expect(code).toBe(0);
      expect(out).toContain('Usage');
      expect(out).not.toContain('npx');
      expect(out.split('\n').every((line) => line.length <= 160)).toBe(true);
    }
  });

  it('takes "help COMMAND" for "COMMAND --help"', async () => {
    expect(await unroll(['help', 'eval'])).toEqual(await unroll(['eval', '--help']));
    expect((await unroll(['help', 'evil'])).err).toMatch(/unknown command "evil"; did you mean "unroll eval"/);
  });

  it('prints its version', async () => {
    expect((await unroll(['--version'])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('shows a stack with --debug alone', async () => {
    const folder = temporaryFolder();
    const plain = await unroll(['inspect', '--model', folder]);
    const debug = await unroll(['inspect', '--model', folder, '--debug']);
    expect(plain.err.trimEnd().split('\n')).toHaveLength(1);
    expect(debug.err).toContain('    at ');
    expect(debug.code).toBe(plain.code);
  });
});

describe('Ctrl-C', () => {
  it.each([
    ['generate', ['generate', '731+94=', '--depth', '400', '--json']],
    ['eval', ['eval', '-', '--depths', '400', '--json']],
  ])('ends %s with 130', async (_, argv) => {
    const io = fakeIo({ stdin: '{"prompt": "731+94=", "answer": "825"}\n' });
    let pressed = false;
    const breathe = async (): Promise<void> => {
      pressed ||= io.interrupt();
    };
    const code = await runCli(argv, { ...io, breathe });
    expect([code, pressed, io.err()]).toEqual([130, true, '']);
    expect(io.out()).not.toContain('"finish"');
  });
});
