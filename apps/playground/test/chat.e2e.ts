import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ADDER } from './hub-server.js';
import { type Playground, patiently, startPlayground } from './support.js';

let playground: Playground;
beforeAll(async () => {
  playground = await startPlayground();
});
afterAll(() => playground.close());

test('chat answers turn by turn, and Stop and New conversation are there', async () => {
  const { page, context } = await playground.open('?view=chat&model=adder&device=cpu');
  await page.getByRole('button', { name: /^adder/ }).waitFor();
  for (const [i, [question, answer]] of [
    ['90+19=', '109'],
    ['90+18=', '108'],
  ].entries()) {
    await page.getByLabel('Message', { exact: true }).fill(question!);
    await page.keyboard.press('Enter');
    const turn = page.locator('.turn').nth(i);
    await turn.getByText('✓ right').waitFor();
    expect((await turn.locator('.token-text').allTextContents()).join('')).toBe(`${answer}⏎`);
  }
  expect(await page.locator('.turn').nth(1).textContent()).toMatch(/prompt tokens from the last turn/);
  await page.getByRole('button', { name: 'New conversation' }).click();
  await expect.poll(() => page.locator('.turn').count(), patiently).toBe(0);
  await context.close();
});

test('a model with a chat template is asked in it, with the whole conversation', async () => {
  // The adder answers what ends in "=": the template alone puts it there.
  const template = "{% for m in messages %}{{ m.content | trim }}{{ '=' if m.role == 'user' else '\\n' }}{% endfor %}";
  const files = readdirSync(ADDER).map((name) => {
    const buffer = readFileSync(join(ADDER, name));
    const isConfig = name === 'tokenizer_config.json';
    return {
      name,
      mimeType: 'application/octet-stream',
      buffer: isConfig ? Buffer.from(JSON.stringify({ ...JSON.parse(buffer.toString()), chat_template: template })) : buffer,
    };
  });
  const { page, context, complaints } = await playground.open('?view=models&model=adder');
  await page.getByTestId('files').setInputFiles(files);
  await page.getByRole('button', { name: /^local files/ }).waitFor();
  await page.locator('nav').getByRole('button', { name: 'Chat', exact: true }).click();
  await page.getByText('Say something.').waitFor();
  const say = async (question: string, i: number) => {
    await page.getByLabel('Message', { exact: true }).fill(question);
    await page.keyboard.press('Enter');
    const turn = page.locator('.turn').nth(i);
    await turn.getByText(/tokens\/s/).waitFor();
    return { answer: (await turn.locator('.token-text').allTextContents()).join(''), note: await turn.textContent() };
  };
  expect((await say('90+19', 0)).answer).toBe('109⏎');
  // The first turn is 10 tokens with its line end, and the last of them has no keys yet when the turn ends.
  expect((await say('90+18', 1)).note).toContain('9 prompt tokens from the last turn');
  expect(complaints).toEqual([]);
  await context.close();
});
