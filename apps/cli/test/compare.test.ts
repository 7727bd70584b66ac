import { describe, expect, it } from 'vitest';
import type { Measured } from '../src/compare/measure.js';
import { measureRows, predictedTotal } from '../src/compare/rows.js';
import { bestExit, budgetVerdict, exitVerdict } from '../src/compare/verdict.js';
import { adderFolder, fakeIo, jsonLines, unroll } from './support.js';

const row = (name: string, accuracy: number, meanRecurrences: number, kvBytesPerToken = 100) =>
  ({ name, accuracy, meanRecurrences, kvBytesPerToken }) as Measured;

describe('the verdicts', () => {
  const base = row('plain, r = 8', 0.8, 8);

  it('holds at 60 % of the recurrences with nothing lost, and not beyond', () => {
    expect(exitVerdict([row('a', 0.8, 4.8)], base, [base]).holds).toBe(true);
    expect(exitVerdict([row('a', 0.8, 4.81)], base, [base]).holds).toBe(false);
    expect(exitVerdict([row('a', 0.79, 2)], base, [base]).holds).toBe(false);
    expect(exitVerdict([row('a', 0.79, 2), row('b', 0.9, 4)], base, [base]).holds).toBe(true);
  });

  it('names the shallowest plain depth that is as accurate', () => {
    const plain = [row('plain, r = 1', 0.5, 1), row('plain, r = 2', 0.8, 2), base];
    expect(exitVerdict([row('a', 0.8, 3)], base, plain).evidence).toContain('plain, r = 2 is the shallowest');
  });

  it('prefers, of rules that lose nothing, the shallowest; else the most accurate', () => {
    expect(bestExit([row('a', 0.8, 5), row('b', 0.81, 4), row('c', 0.7, 1)], base)!.name).toBe('b');
    expect(bestExit([row('a', 0.7, 5), row('b', 0.6, 1)], base)!.name).toBe('a');
  });

  it('lets a budget cost two points, and no more', () => {
    expect(budgetVerdict(row('one', 0.78, 8), base).holds).toBe(true);
    expect(budgetVerdict(row('one', 0.775, 8), base).holds).toBe(false);
    expect(budgetVerdict(row('one', 0.82, 8), base).evidence).toContain('gains 2.0 points');
  });
});

describe('predicted time', () => {
  const costs = Array.from({ length: 16 }, (_, i) => ({ rows: i + 1, coreMs: 1 + i, outerMs: 10 }));
  const report = { promptTokens: 4, newTokens: 5, corePositions: 8 * 4 + 2 * 3 * 4 } as never as Parameters<
    typeof predictedTotal
  >[0][number];

  it('adds up passes by their rows', () => {
    const plain = { name: '', kind: 'plain', options: { recurrences: 8 } } as const;
    expect(predictedTotal([report], plain, costs)).toBe(8 * 4 + 10 + 4 * (8 + 10));
    const speculative = { ...plain, options: { recurrences: 8, speculative: { draftRecurrences: 2, lookahead: 4 } } };
    const drafted = { ...report, speculation: { rounds: 2, drafted: 6, accepted: 5 } };
    expect(predictedTotal([drafted], speculative, costs)).toBe(8 * 4 + 10 + 6 * (2 + 10) + 2 * (8 * 4 + 10));
    const wavefront = { ...plain, options: { recurrences: 8, wavefront: { innerRecurrences: 2 } } };
    const rounds = { ...report, wavefront: { rounds: 3, recurrencesPerPosition: [], frozenInRound: [] } };
    expect(predictedTotal([rounds], wavefront, costs)).toBe(8 * 4 + 10 + 3 * (2 * 4 + 10));
  });
});

describe('compare', { timeout: 120_000 }, () => {
  it('measures every strategy on held-out problems of the embedded model', async () => {
    const { code, out } = await unroll(['compare', '--model', 'adder', '--limit', '6', '--tune', '4', '--json']);
    expect(code).toBe(0);
    const lines = jsonLines(out);
    const [rows, last] = [lines.slice(0, -1), lines.at(-1)!];
    const find = (name: string) => rows.find((one) => one.name === name)!;
    const plain = find('plain, r = 8');
    expect(plain).toMatchObject({ n: 6, meanRecurrences: 8, corePassesPerToken: 8, speedUp: 1, predictedSpeedUp: 1, acceptance: null });
    expect(rows.every((one) => !('reports' in one))).toBe(true);
    expect(new Set(rows.map(({ kind }) => kind))).toEqual(
      new Set(['plain', 'exit', 'exit by position', 'warm start', 'speculative', 'wavefront', 'KV policy']),
    );
    // Slots: prelude, core, coda; keys and values of 64 floats each.
    expect(plain.kvBytesPerToken).toBe((2 + 8 * 2) * 2 * 64 * 4);
    expect(find('latest-compress-s2').kvBytesPerToken).toBe((2 + 2) * 2 * 64 * 4);
    for (const draft of ['speculative 1,4', 'speculative 2,4', 'speculative 4,4']) {
      expect(find(draft).accuracy).toBe(plain.accuracy);
      expect(find(draft).corePassesPerToken).toBeLessThan(8);
    }
    expect(last.verdicts).toHaveLength(2);
    expect(last.rowCosts).toHaveLength(16);
    expect(Object.keys(last.machine as object)).toEqual(['device', 'processor', 'cores', 'node', 'load']);
  });

  it('prints a table with a verdict for each claim, on problems of a file', async () => {
    const stdin = '{"prompt": "731+094=", "answer": "0825"}\n{"prompt": "2+2=", "answer": "04"}\n';
    const { code, out } = await unroll(['compare', '-', '--depth', '4'], { stdin });
    expect(code).toBe(0);
    expect(out).toContain('reckoner (embedded), 2 problems, depth 4');
    expect(out).toMatch(/plain, r = 4 +100\.0 % +4\.00 +4\.00/);
    expect(out).toMatch(/holds +adaptive exit at equal accuracy/);
    expect(out).toMatch(/holds +one loop's modulo budget/);
  });

  it('measures the cost of rows in turns and leaves the device as it was', async () => {
    const { loadModel } = await import('../src/model/load.js');
    const loaded = await loadModel({}, fakeIo());
    const before = loaded.device.memory().bytes;
    const costs = await measureRows(loaded.model, 1, fakeIo());
    expect(costs.map(({ rows }) => rows)).toEqual(Array.from({ length: 16 }, (_, i) => i + 1));
    // What lies outside the loop is measured by itself, never the rest of a difference.
    expect(costs.every(({ outerMs, coreMs }) => outerMs > 0 && coreMs >= 0)).toBe(true);
    expect(loaded.device.memory().bytes).toEqual(before);
    await loaded.dispose();
  });

  it.each<[string[], number, RegExp]>([
    [['compare', '/no/such.jsonl'], 1, /there is no file "\/no\/such.jsonl"/],
    [['compare', '--limit', '0'], 2, /--limit .*got 0/],
    [['compare', '--depth', 'x'], 2, /--depth .*got "x"/],
    [['compare', '--strategy', 'x'], 2, /unknown flag --strategy/],
  ])('%j', async (argv, expected, says) => {
    const { code, err } = await unroll(argv);
    expect(err).toMatch(says);
    expect(code).toBe(expected);
  });

  it('asks for a file where the model has no problems, and for text that the model can read', async () => {
    const { code, err } = await unroll(['compare', '--model', await adderFolder()]);
    expect([code, err]).toEqual([2, expect.stringMatching(/has no problems of its own; give FILE/)]);
    const bad = await unroll(['compare', '-'], { stdin: '{"prompt": "é", "answer": "1"}\n' });
    expect([bad.code, bad.err]).toEqual([1, expect.stringMatching(/line 1, prompt: .*é/)]);
  });
});
