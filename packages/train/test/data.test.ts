import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ignoreTarget } from '@unroll/recurrent';
import { createCpuDevice } from '@unroll/tensor/cpu';
import {
  checkDepth,
  checkMixture,
  depthAt,
  documentEnd,
  drawFamilies,
  drawHeldOut,
  encodeText,
  endToken,
  familyFor,
  isHeldOut,
  type Problem,
  packDocuments,
  packProblems,
  padToken,
  parseTrainingConfig,
  problemFor,
  Random,
  TextRows,
  Trainer,
  tasks,
  tokenizerFiles,
  vocabularySize,
} from '@unroll/train';
import { describe, expect, it } from 'vitest';

const minimal = {
  model: {
    n_embd: 16,
    num_attention_heads: 2,
    intermediate_size: 24,
    vocab_size: 24,
    block_size: 32,
    n_layers_in_prelude: 1,
    n_layers_in_recurrent_block: 1,
    n_layers_in_coda: 1,
    mean_recurrence: 2,
    mean_backprop_depth: 1,
    norm_eps: 1e-6,
    tie_embeddings: true,
    qk_bias: true,
  },
  seed: 3,
  steps: 4,
  microBatch: 2,
  depth: { kind: 'fixed', mean: 2, gradient: 1 },
  schedule: { kind: 'warmup-constant', peak: 0.003, warmup: 1 },
  optimizer: { name: 'adamw' },
};

const many = (name: string, level: number, count = 300, heldOut = false) =>
  Array.from({ length: count }, (_, i) => problemFor(tasks[name]!, new Random(7, 'problem', i), level, heldOut));

/** Where the arrows of a prompt lead: a step for each star, and `more`. */
function chased(prompt: string, form: RegExp, more: number): string {
  const [, edges, start, stars] = form.exec(prompt)!;
  const walk = (at: string, left: number): string =>
    left === 0 ? at : walk(edges!.split('.').find((edge) => edge[0] === at)![1]!, left - 1);
  return walk(start!, stars!.length + more);
}

describe('the tasks', () => {
  // Each is solved from its text by other means than its generator's.
  const solvers: Record<string, (prompt: string) => string> = {
    addition: (prompt) => {
      const [a, b] = prompt.slice(0, -1).split('+').map(BigInt);
      return String(a! + b!).padStart(prompt.indexOf('+') + 1, '0');
    },
    parity: (prompt) => String(prompt.replace(/[^1]/g, '').length % 2),
    pointer: (prompt) => chased(prompt, /^@((?:\d\d\.?)+)=(\d)(\**)$/, 1),
    pointerMarked: (prompt) => chased(prompt, /^@((?:\d\d\.?)+):(\d)(\*+)=$/, 0),
    permutation: (prompt) =>
      [...prompt.slice(1, -1)].reduce((things, at) => {
        const i = Number(at) - 1;
        return things.slice(0, i) + things[i + 1]! + things[i]! + things.slice(i + 2);
      }, '12345'),
    chain: (prompt) => String((prompt.match(/[1-4]/g) ?? []).map(Number).reduce((a, b) => a + b, 0) % 5),
  };

  it.each(Object.keys(tasks))('%s: right answers, of its characters, at its levels', (name) => {
    const task = tasks[name]!;
    for (const level of [task.levels[0], Math.ceil((task.levels[0] + task.levels[1]) / 2), task.levels[1]]) {
      for (const { prompt, answer } of many(name, level, 60)) {
        expect(answer).toBe(solvers[name]!(prompt));
        expect(() => encodeText(prompt + answer)).not.toThrow();
      }
    }
    for (const { prompt, answer, level } of familyFor(task, new Random(3, 'problem', 1), 6)) {
      expect(level).toBeLessThanOrEqual(6);
      expect(answer).toBe(solvers[name]!(prompt));
    }
  });

  it('come out the same for the same (seed, place), whatever was drawn before', () => {
    const mixture = [
      { task: 'addition', weight: 1, levels: [2, 4] as const },
      { task: 'parity', weight: 3, levels: [6, 8] as const },
    ];
    const all = drawFamilies(mixture, 5, 0, 400);
    expect(drawFamilies(mixture, 5, 123, 10)).toEqual(all.slice(123, 133));
    expect(drawFamilies(mixture, 6, 0, 5)).not.toEqual(all.slice(0, 5));
    expect(drawHeldOut(mixture, 5, 9)).toEqual(drawHeldOut(mixture, 5, 12).slice(0, 9));
    const share = all.filter(({ share }) => share === 1).length / all.length;
    expect(share).toBeGreaterThan(0.68);
    expect(share).toBeLessThan(0.82);
  });

  it('reach no further than they may, and are at their highest as often as asked', () => {
    const mixture = [{ task: 'parity', weight: 1, levels: [1, 12] as const }];
    const highest = (reach?: { level: number[]; focus: number }) =>
      drawFamilies(mixture, 5, 0, 600, reach).map(({ problems }) => problems[0]!.level);
    const levels = highest({ level: [4], focus: 0.4 });
    expect(Math.max(...levels)).toBe(4);
    // 0.4 at the highest, and a quarter of the rest.
    expect(Math.abs(levels.filter((level) => level === 4).length / 600 - 0.55)).toBeLessThan(0.07);
    expect(Math.max(...highest())).toBe(12);
  });

  it.each(Object.keys(tasks))('%s: nothing that is held out is trained on', (name) => {
    const task = tasks[name]!;
    const level = Math.max(2, task.heldOutFrom);
    const families = Array.from({ length: 2000 }, (_, i) => familyFor(task, new Random(7, 'problem', i), level + (i % 3)));
    const trained = new Set(families.flat().map(({ key }) => key));
    const held = many(name, level, 200, true);
    expect(held.filter(({ key }) => trained.has(key))).toEqual([]);
    expect(held.every((problem) => isHeldOut(task, problem))).toBe(true);
  });

  it('hold out the same of a split, however it is written', () => {
    const [one, other] = [tasks.pointer!, tasks.pointerMarked!].map((task) =>
      Array.from({ length: 300 }, (_, i) => task.generate(new Random(1, 'problem', i), 3)[0]).map((problem) => isHeldOut(task, problem)),
    );
    expect(one).toEqual(other);
    expect(one!.some(Boolean)).toBe(true);
  });

  it('add several numbers to one, each a problem of its level', () => {
    for (const level of [1, 3]) {
      const families = Array.from({ length: 50 }, (_, i) => tasks.addition!.generate(new Random(2, 'problem', i), level));
      expect(families.every((family) => family.length > 1)).toBe(true);
      for (const family of families) {
        const [first] = family;
        const parts = family.map(({ prompt }) => /^(\d+)\+(\d+)=$/.exec(prompt)!.slice(1));
        expect(new Set(family.map(({ prompt }) => prompt)).size).toBe(family.length);
        expect(new Set(parts.map(([a]) => a)).size).toBe(1);
        for (const numbers of parts) {
          expect(numbers.map((number) => number.length)).toEqual([level, level]);
          expect(Math.max(...numbers.map((number) => String(Number(number)).length))).toBe(level);
        }
        expect(family.every((problem) => problem.level === first.level)).toBe(true);
      }
    }
  });

  it('are held out of the tasks alone whose levels have such problems', () => {
    const mixture = ['parity', 'chain'].map((task) => ({ task, weight: 1, levels: [1, 5] as const }));
    const held = drawHeldOut(mixture, 1, 50);
    expect(held.every(({ prompt }) => prompt.startsWith('&'))).toBe(true);
    expect([...new Set(held.map(({ level }) => level))].sort()).toEqual([4, 5]);
    expect(() => drawHeldOut(mixture.slice(0, 1), 1, 1)).toThrow('none is held out; raise one of them to parity 6');
  });

  it('hold out both ways to write a sum', () => {
    const key = (a: number, b: number) => many('addition', 2, 3000).find(({ prompt }) => prompt === `${a}+${b}=`)?.key;
    const pairs = many('addition', 2, 3000).map(({ prompt }) => prompt.slice(0, -1).split('+').map(Number) as [number, number]);
    const both = pairs.find(([a, b]) => a !== b && key(a, b) !== undefined && key(b, a) !== undefined)!;
    expect(key(both[0], both[1])).toBe(key(both[1], both[0]));
  });

  it('say when a level has too few problems to be split', () => {
    const one = { prompt: '#', answer: '0', level: 6, key: 'one' };
    const task = { ...tasks.parity!, generate: (): [Problem] => [one] };
    expect(() => problemFor(task, new Random(1, 'problem', 0), 6, !isHeldOut(task, one))).toThrow('too few to be split');
  });

  it('are checked', () => {
    expect(() => checkMixture([{ task: 'chess', weight: 1, levels: [1, 2] }])).toThrow('there is no task "chess"');
    expect(() => checkMixture([{ task: 'parity', weight: 1, levels: [0, 2] }])).toThrow('are 1 to 40; got 0 to 2');
    expect(() => checkMixture([{ task: 'parity', weight: 0, levels: [6, 7] }])).toThrow('weight of parity must be above 0');
    expect(() => checkMixture([{ task: 'parity', weight: 1, levels: [2, 7], start: 8 }])).toThrow('one of its levels 2 to 7; got 8');
    expect(() => checkMixture([])).toThrow('one share at least');
  });
});

describe('batches', () => {
  const problem = (prompt: string, answer: string): Problem => ({ prompt, answer, level: 1, key: prompt });
  const of = (text: string) => encodeText(text);
  const none = (count: number) => new Array<number>(count).fill(ignoreTarget);

  it('count the answer and its end, nothing else', () => {
    const { data, answers } = packProblems([[problem('1+2=', '3')], [problem('12+30=', '42')]], 16);
    expect(data.batch).toBe(2);
    expect([...data.parents!]).toEqual([-1, 0, 1, 2, 3, -1, 5, 6, 7, 8, 9, 10, 11]);
    expect([...data.tokens]).toEqual([...of('1+2=3'), ...of('12+30=42')]);
    expect([...data.targets]).toEqual([...none(3), ...of('3'), endToken, ...none(5), ...of('42'), endToken]);
    expect(answers).toEqual([
      [3, 4],
      [10, 11, 12],
    ]);
    expect(() => packProblems([[problem('12+30=', '42')]], 4)).toThrow('has 8 tokens, the context 4');
  });

  it('share what a family begins with', () => {
    const { data, answers } = packProblems([[problem('#01=', '1'), problem('#0=', '0')], [problem('#0=', '0')]], 16);
    expect([...data.tokens]).toEqual([...of('#01=1'), ...of('=0'), ...of('#0=0')]);
    expect([...data.parents!]).toEqual([-1, 0, 1, 2, 3, 1, 5, -1, 7, 8, 9]);
    expect([...data.targets]).toEqual([...none(3), ...of('1'), endToken, ...of('0'), endToken, ...none(2), ...of('0'), endToken]);
    expect([data.batch, answers]).toEqual([
      2,
      [
        [3, 4],
        [5, 6],
        [9, 10],
      ],
    ]);
  });

  it('pack documents in rows', () => {
    const data = packDocuments(
      [
        [1, 2, 3],
        [4, 5],
        [6, 7, 8, 9],
      ],
      4,
      0,
    );
    expect([...data.tokens]).toEqual([1, 2, 3, 0, 4, 5, 0, 6]);
    expect([...data.targets]).toEqual([2, 3, 0, 4, 5, 0, 6, 7]);
    expect(data.batch).toBe(2);
    expect(() => packDocuments([[1]], 4, 0)).toThrow('do not fill one row');
  });

  it('have a tokenizer of the same tokens', () => {
    const files = tokenizerFiles(64) as {
      'tokenizer.json': { model: { vocab: Record<string, number> }; added_tokens: { id: number; content: string }[] };
    };
    const { model, added_tokens } = files['tokenizer.json'];
    // Where weights were trained: a character that is added later takes a token that was unused.
    expect(
      Object.entries(model.vocab)
        .sort(([, a], [, b]) => a - b)
        .map(([character]) => character)
        .join(''),
    ).toBe('Ċ0123456789+=#:@*%.&');
    expect([model.vocab['.'], padToken, model.vocab['&']]).toEqual([18, 19, 20]);
    expect(added_tokens.map(({ id, content }) => [id, content])).toEqual([
      [19, '<|pad|>'],
      [21, '<|unused1|>'],
      [22, '<|unused2|>'],
      [23, '<|unused3|>'],
    ]);
    expect(Object.keys(model.vocab).length + added_tokens.length).toBe(vocabularySize);
    for (const [character, id] of Object.entries(model.vocab)) expect(encodeText(character === 'Ċ' ? '\n' : character)).toEqual([id]);
  });
});

const recipes = fileURLToPath(new URL('../recipes/', import.meta.url));

it.each(readdirSync(recipes))('recipe %s fits', (name) => {
  const config = parseTrainingConfig(JSON.parse(readFileSync(`${recipes}${name}`, 'utf8')));
  // Each step of the longest problems has to fit the model's context.
  for (const { task, levels } of config.tasks) {
    const family = familyFor(tasks[task]!, new Random(1, 'problem', 1), levels[1]);
    expect(() => packProblems([family], (config.model as { block_size: number }).block_size)).not.toThrow();
  }
  const { schedule, steps } = config;
  if ('total' in schedule) expect(schedule.total).toBeGreaterThanOrEqual(steps);
});

it('harder problems must be harder', () => {
  const shares = [{ task: 'parity', weight: 1, levels: [1, 12] as const }];
  const check = (harder: object) => () =>
    parseTrainingConfig({ ...minimal, tasks: shares, harder: { levels: { parity: [13, 14] }, depths: [2, 4], ...harder } });
  expect(check({})).not.toThrow();
  expect(check({ levels: { parity: [12, 14] } })).toThrow('must be from 13, above those trained on, to 40; got 12 to 14');
  expect(check({ levels: { parity: [13, 41] } })).toThrow('got 13 to 41');
  expect(check({ levels: { parity: 13 } })).toThrow('got NaN to NaN');
  expect(check({ levels: { chain: [5, 6] } })).toThrow('chain is not one of the tasks');
  expect(check({ levels: {} })).toThrow('one task at least');
  expect(check({ depths: [4, 2] })).toThrow('that rise; got 4,2');
  expect(check({ depths: [] })).toThrow('that rise');
  expect(check({ problems: 0 })).toThrow('problems must be');
  expect(check({ length: 3 })).toThrow('unknown option "length"');
});

describe('rows of text', () => {
  const config = { files: ['a'], vocabulary: 300, length: 4, heldOut: 0.25 };
  // Each token tells its place.
  const documents = [Array.from({ length: 120 }, (_, i) => i + 1), Array.from({ length: 50 }, (_, i) => i + 200)];

  it('predict every next token, and keep those held out apart', () => {
    const rows = new TextRows(config, documents);
    const drawn = rows.training(3, 0, 400);
    expect([...drawn.targets].every((target, i) => (i % 4 === 3 ? true : target === drawn.tokens[i + 1]))).toBe(true);
    const held = rows.heldOut(1000);
    // 172 tokens with both ends, the last one a target alone: 42 rows, each fourth held out.
    expect([held.batch, drawn.batch]).toEqual([10, 400]);
    const inside = new Set(held.tokens);
    inside.delete(documentEnd.id);
    expect([...drawn.tokens].some((token) => inside.has(token))).toBe(false);
    expect(new Set(drawn.tokens).size).toBeGreaterThan(100);
    expect(rows.training(3, 100, 7).tokens).toEqual(drawn.tokens.slice(400, 428));
    expect(rows.training(4, 0, 400).tokens).not.toEqual(drawn.tokens);
  });

  it('know another text', () => {
    const keys = [documents, [documents[1]!, documents[0]!], [documents[0]!]].map((text) => new TextRows(config, text).key);
    expect(new Set(keys).size).toBe(3);
    expect(new TextRows(config, documents).key).toBe(keys[0]);
  });

  it('are checked', () => {
    expect(() => new TextRows(config, [[1, 300]])).toThrow('token 300 is not one of a vocabulary of 300');
    expect(() => new TextRows(config, [[1, 2, 3, 4, 5, 6]])).toThrow('leave nothing to hold out; give 4 or more');
    const model = { ...minimal.model, vocab_size: 300 };
    const parse = (text: object, more: object = {}) => parseTrainingConfig({ ...minimal, model, text: { ...config, ...text }, ...more });
    expect(parse({}).tasks).toEqual([]);
    expect(() => parse({ files: [] })).toThrow('files must be a list of paths');
    expect(() => parse({ vocabulary: 200 })).toThrow('vocabulary must be a whole number from 257');
    expect(() => parse({ vocabulary: 301 })).toThrow('the text is written in 301 tokens; model.vocab_size is 300');
    expect(() => parse({ length: 33 })).toThrow("the model's context 32; got 33");
    expect(() => parse({ heldOut: 0 })).toThrow('heldOut must be');
    expect(() => parse({ words: 1 })).toThrow('unknown option "words"');
    expect(() => parse({}, { curriculum: { solved: 1, focus: 0.5 } })).toThrow('on text or on tasks');
    expect(() => parse({}, { tasks: [{ task: 'parity', weight: 1, levels: [1, 2] }] })).toThrow('on text or on tasks');
  });

  it('are asked for where the config says so, and only there', () => {
    const device = createCpuDevice();
    const model = { ...minimal.model, vocab_size: 300 };
    expect(() => new Trainer(device, parseTrainingConfig({ ...minimal, model, text: config }))).toThrow('give its documents');
    const tasks = [{ task: 'parity', weight: 1, levels: [1, 2] }];
    expect(() => new Trainer(device, parseTrainingConfig({ ...minimal, tasks }), { documents: [[1]] })).toThrow('the config has no text');
    expect(device.memory().buffers).toBe(0);
    device.dispose();
  });
});

describe('depths', () => {
  const draws = (config: Parameters<typeof depthAt>[0], count = 4000) =>
    Array.from({ length: count }, (_, step) => {
      const { n, k } = depthAt(config, 11, step + 1);
      expect(k).toBe(Math.min(config.gradient, n + k));
      return n + k;
    });
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b) / values.length;
  const quantile = (values: readonly number[], q: number) => [...values].sort((a, b) => a - b)[Math.floor(q * values.length)]!;

  it("have the paper's distribution: mean 33, median 29, 95 % up to 66, 99 % up to 93", () => {
    const all = draws({ kind: 'lognormal-poisson', mean: 32, gradient: 8, limit: 1000 }, 20_000);
    expect(Math.abs(mean(all) - 33)).toBeLessThan(0.5);
    expect(Math.abs(quantile(all, 0.5) - 29)).toBeLessThanOrEqual(1);
    expect(Math.abs(quantile(all, 0.95) - 66)).toBeLessThanOrEqual(2);
    expect(Math.abs(quantile(all, 0.99) - 93)).toBeLessThanOrEqual(5);
  });

  it.each(['poisson', 'geometric', 'uniform', 'fixed'] as const)('%s has the mean that it is given', (kind) => {
    const all = draws({ kind, mean: 8, gradient: 4, limit: 1000 });
    expect(Math.abs(mean(all) - 8)).toBeLessThan(0.4);
    expect(Math.min(...all)).toBe(kind === 'fixed' ? 8 : 1);
  });

  it('grow by their curriculum, and keep to their limit', () => {
    const config = { kind: 'fixed', mean: 10, gradient: 4, curriculum: { steps: 100, shape: 'linear' } } as const;
    expect([1, 50, 100, 500].map((step) => depthAt(config, 1, step).n + depthAt(config, 1, step).k)).toEqual([1, 5, 10, 10]);
    expect(Math.max(...draws({ kind: 'lognormal-poisson', mean: 8, gradient: 4 }))).toBeLessThanOrEqual(32);
  });

  it('are checked', () => {
    expect(() => checkDepth({ kind: 'sobol' as never, mean: 8, gradient: 4 })).toThrow('kind must be one of');
    expect(() => checkDepth({ kind: 'fixed', mean: 8.5, gradient: 4 })).toThrow('whole number');
    expect(() => checkDepth({ kind: 'poisson', mean: 8, gradient: 0 })).toThrow('gradient must be');
    expect(() => checkDepth({ kind: 'poisson', mean: 8, gradient: 4, limit: 4 })).toThrow('limit must be from the mean 8');
  });
});

it('random numbers have their distributions', () => {
  const random = new Random(3, 'state', 1);
  const normal = Array.from({ length: 20_000 }, () => random.normal());
  const mean = normal.reduce((a, b) => a + b) / normal.length;
  expect(Math.abs(mean)).toBeLessThan(0.03);
  expect(Math.abs(normal.reduce((sum, x) => sum + (x - mean) ** 2, 0) / normal.length - 1)).toBeLessThan(0.05);
  expect([...random.order(6)].sort()).toEqual([0, 1, 2, 3, 4, 5]);
  expect(new Random(3, 'state', 1).word()).not.toBe(new Random(3, 'depth', 1).word());
});
