import { exitRule, exitRuleNames } from '@unroll/sampler';
import { drawHeldOut, tasks } from '@unroll/train';
import { expect, test } from 'vitest';
import { taskOf } from '../src/models/embedded.js';
import { explain, solve, solveRest, verdict } from '../src/state/answers.js';
import {
  exitChoices,
  exitRules,
  type PageSettings,
  pageDefaults,
  readSettings,
  runDefaults,
  sharedDefaults,
  writeSettings,
} from '../src/state/settings.js';

test('settings go through an address and back, and defaults leave it empty', () => {
  expect(writeSettings(pageDefaults)).toBe('');
  const settings: PageSettings = {
    view: 'train',
    inside: 'paths',
    model: 'stored:owner~model',
    device: 'webgpu',
    shared: { ...sharedDefaults, prompt: 'a&b = ü+1?', seed: 12, temperature: 0.7, topP: 0.9, initScale: 0 },
    panes: [
      { ...runDefaults(3), strategy: 'adaptive', exit: 'kl', threshold: 5e-4, policy: 'latest', warm: true },
      { ...runDefaults(64), strategy: 'speculative', draft: 4, lookahead: 8 },
    ],
  };
  expect(readSettings(writeSettings(settings))).toEqual({ settings, ignored: [] });
});

test('values that do not fit are left at their defaults and named', () => {
  const { settings, ignored } = readSettings(
    'view=attic&a.depth=65&b.depth=2.5&seed=-1&topP=&colour=red&a.strategy=plain&b.warm=yes&b.depth.x=1',
  );
  expect(settings).toEqual(pageDefaults);
  expect(ignored).toEqual(['view=attic', 'seed=-1', 'topP=', 'a.depth=65', 'b.depth=2.5', 'b.warm=yes', 'colour', 'b.depth.x']);
});

test.each(Object.keys(tasks))('right answers of %s are those of the generator', (name) => {
  const [, most] = tasks[name]!.levels;
  const problems = drawHeldOut([{ task: name, weight: 1, levels: [tasks[name]!.heldOutFrom, most] }], 3, 200);
  for (const { prompt, answer } of problems) {
    expect(solve(prompt)).toContain(answer);
    expect(explain(prompt)).toBeTypeOf('string');
    expect(solveRest(prompt + answer.slice(0, 1))).toContain(answer.slice(1));
    expect(taskOf(prompt)).toBe(name === 'pointerMarked' ? 'pointer' : name);
  }
});

test('sums are right with and without the zero before them, and nothing else is', () => {
  expect(solve('12+30=')).toEqual(['42', '042']);
  expect(solve('99+13=')).toEqual(['112']);
  expect(solve('482+17=')).toEqual(['499']);
  expect(solveRest('12+30=04')).toEqual(['2']);
  expect(verdict('042\n', solve('12+30='))).toEqual({ good: true, text: '✓ right' });
  expect(verdict('43', solve('12+30='))).toEqual({ good: false, text: '✗ it is 42' });
});

test('a prompt of no known kind, or with a wrong beginning, has no right answer', () => {
  for (const prompt of ['hello', '12+3', '#01:3=', '@07=5', '@0.7=0', '%15=', '']) expect(solve(prompt)).toEqual([]);
  expect(solveRest('12+30=5')).toEqual([]);
  expect(explain('hello')).toBeUndefined();
  expect(verdict('7', [])).toBeUndefined();
});

test('the exit rules to choose from are those of the sampler, and q-exit where the model has a gate', () => {
  expect([...exitRules].sort()).toEqual([...exitRuleNames].sort());
  expect(exitChoices(false, 'kl')).toEqual(exitRules);
  expect(exitChoices(true, 'kl')).toEqual([...exitRules, 'q-exit']);
  expect(exitChoices(false, 'q-exit')).toContain('q-exit');
  expect(exitRule('q-exit').name).toBe('q-exit');
});
