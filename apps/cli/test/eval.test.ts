import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadEmbedded } from '@unroll/pretrained';
import { beforeAll, describe, expect, it } from 'vitest';
import { createProgress } from '../src/progress.js';
import { adderFolder, fakeIo, jsonLines, OWN_FIXTURE, temporaryFolder, unroll } from './support.js';

interface Accuracy {
  readonly accuracy: Readonly<Record<string, { readonly all: number }>>;
}
const expected = JSON.parse(readFileSync(join(OWN_FIXTURE, 'expected.json'), 'utf8')) as Accuracy;

let problems: string;
beforeAll(async () => {
  problems = join(temporaryFolder(), 'problems.jsonl');
  await writeFile(problems, (await loadEmbedded('adder')).problems.map((problem) => JSON.stringify(problem)).join('\n'));
});

describe('eval', () => {
  it("reproduces the reference's accuracy on all 1000 problems, depth by depth", async () => {
    const depths = Object.keys(expected.accuracy).filter((depth) => Number(depth) <= 8);
    const { code, out } = await unroll(['eval', problems, '--model', 'adder', '--depths', depths.join(','), '--json']);
    const lines = jsonLines(out);
    expect(code).toBe(0);
    expect(lines.map(({ depth }) => depth)).toEqual(depths.map(Number));
    for (const line of lines) {
      expect(Object.keys(line)).toEqual(['depth', 'accuracy', 'n']);
      expect(line.n).toBe(1000);
      expect(Math.abs((line.accuracy as number) - expected.accuracy[String(line.depth)]!.all)).toBeLessThanOrEqual(0.01);
    }
  }, 120_000);

  it.each(['q8', 'q4'])(
    'with --dtype %s answers nearly as many problems rightly',
    async (dtype) => {
      const run = async (...more: string[]) => {
        const { code, out } = await unroll(['eval', problems, '--model', 'adder', '--limit', '200', '--depths', '4,8', '--json', ...more]);
        expect(code).toBe(0);
        return jsonLines(out).map(({ accuracy }) => accuracy as number);
      };
      const [exact, rounded] = [await run(), await run('--dtype', dtype)];
      // One problem of 200 is half a point.
      exact.forEach((accuracy, i) => {
        expect(Math.abs(rounded[i]! - accuracy)).toBeLessThanOrEqual(dtype === 'q8' ? 0.01 : 0.03);
      });
    },
    120_000,
  );

  it('refuses an unknown --dtype', async () => {
    const { code, err } = await unroll(['eval', problems, '--model', 'adder', '--dtype', 'q5']);
    expect(code).toBe(2);
    expect(err).toContain('--dtype must be f32, f16, bf16, q8, q4; got "q5"');
  });

  it('has gained by depth 8 what depth can give, as the reference has', async () => {
    const shares = Object.entries(expected.accuracy).flatMap(([depth, { all }]) => (Number(depth) >= 8 ? [all] : []));
    expect(new Set(shares)).toEqual(new Set([expected.accuracy['8']!.all]));
    const { out } = await unroll(['eval', problems, '--model', 'adder', '--limit', '100', '--depths', '8,16,64', '--json']);
    expect(new Set(jsonLines(out).map(({ accuracy }) => accuracy)).size).toBe(1);
  }, 60_000);

  it('gives the same answers whatever the batch', async () => {
    const run = async (batch: string, ...more: string[]) =>
      (await unroll(['eval', problems, '--model', 'adder', '--limit', '60', '--depths', '2', '--json', '--batch-size', batch, ...more]))
        .out;
    expect(await run('1')).toBe(await run('32'));
    expect(await run('7', '--init-scale', '1', '--seed', '3')).toBe(await run('60', '--init-scale', '1', '--seed', '3'));
  });

  it('makes a table by the fields of the lines', async () => {
    const lines = (await loadEmbedded('reckoner')).problems.filter(({ task, level }) => task === 'parity' && (level === 6 || level === 24));
    const file = join(temporaryFolder(), 'parity.jsonl');
    await writeFile(file, lines.map((line) => JSON.stringify(line)).join('\n'));
    const run = (...more: string[]) => unroll(['eval', file, '--model', 'reckoner', ...more]);
    const { code, out } = await run('--by', 'task,level', '--depths', '1,16');
    expect(code).toBe(0);
    const rows = out
      .trimEnd()
      .split('\n')
      .slice(2)
      .map((line) => line.trim().split(/ {2,}/));
    expect(rows.map((row) => row[0])).toEqual(['problems', 'parity 6', 'parity 24', 'all']);
    const share = (row: number, column: number) => Number.parseFloat(rows[row]![column]!);
    const counts = rows.slice(1).map((row) => Number(row[1]));
    expect(counts[0]! + counts[1]!).toBe(counts[2]);
    expect(share(3, 3) * counts[2]!).toBeCloseTo(share(1, 3) * counts[0]! + share(2, 3) * counts[1]!, -1);
    // So many bits need depth: what the model is shipped for.
    expect(share(2, 3) - share(2, 2)).toBeGreaterThan(30);
    const exits = await run('--by', 'level', '--depths', '32', '--exit', 'kl:0.0005', '--min-recurrences', '2');
    const spent = exits.out
      .trimEnd()
      .split('\n')
      .slice(3)
      .map((line) => Number(line.trim().split(/ {2,}/)[3]));
    expect(spent[1]!).toBeGreaterThan(spent[0]!);
    expect(await run('--by', 'colour', '--depths', '1')).toMatchObject({
      code: 1,
      err: expect.stringContaining('line 1 has no field "colour"'),
    });
    expect(await run('--by', 'level', '--json')).toMatchObject({ code: 2, err: expect.stringContaining('--by makes a table') });
  }, 60_000);

  it('reads problems from a pipe and prints a table', async () => {
    const stdin = '{"prompt": "1+1=", "answer": "02"}\r\n\n{"prompt": "2+2=", "answer": " 04 "}\n{"prompt": "2+2=", "answer": "05"}\n';
    const { out } = await unroll(['eval', '-', '--depths', '8'], { stdin });
    expect(out).toBe('reckoner (embedded), 3 problems\n\n  depth  accuracy   right\n      8    66.7 %  2 of 3\n');
  });

  it('counts an answer that only begins right as wrong', async () => {
    const stdin = '{"prompt": "731+094=", "answer": "082"}\n{"prompt": "731+094=", "answer": "08255"}\n';
    const [line] = jsonLines((await unroll(['eval', '-', '--depths', '8', '--json'], { stdin })).out);
    expect(line).toEqual({ depth: 8, accuracy: 0, n: 2 });
  });

  it('measures the checkpoint that it is given', async () => {
    const { weights } = await loadEmbedded('adder');
    const copy = weights.slice();
    // Header left alone, all values made small: another model, which cannot add.
    const start = 8 + Number(new DataView(copy.buffer).getBigUint64(0, true));
    new Float32Array(copy.buffer.slice(start)).forEach((value, i) =>
      new DataView(copy.buffer).setFloat32(start + 4 * i, value * 0.01, true),
    );
    const folder = await adderFolder({ 'model.safetensors': copy });
    const [line] = jsonLines((await unroll(['eval', problems, '--model', folder, '--limit', '50', '--depths', '4', '--json'])).out);
    expect(line!.accuracy).toBeLessThan(0.1);
  });

  it('draws its bar on a terminal alone, and takes it away', async () => {
    const argv = ['eval', problems, '--model', 'adder', '--limit', '64', '--depths', '1'];
    expect((await unroll(argv)).err).toBe('');
    const { err } = await unroll(argv, { tty: true });
    expect(err).toContain('█');
    expect(err.endsWith('\r\u001b[2K')).toBe(true);
  });

  it('keeps the bar within the terminal', () => {
    const io = fakeIo({ tty: true, columns: 30 });
    createProgress(io).update(0.5, 'a label that is longer than the line of this terminal');
    expect(io.err().replace('\r\u001b[2K', '')).toHaveLength(29);
  });
});
