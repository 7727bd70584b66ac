import { readFile } from 'node:fs/promises';
import { CommandError } from '../errors.js';
import type { Io } from '../io.js';
import type { Problem } from './evaluate.js';

/** The problems of a JSONL file, or of standard input for `-`. Throws CommandError. */
export async function readProblems(file: string, io: Io): Promise<Problem[]> {
  const text =
    file === '-'
      ? await io.stdin.readAll()
      : await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => Promise.reject(unreadable(file, error)));
  const name = file === '-' ? 'standard input' : `"${file}"`;
  const problems = text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .flatMap((line, i) => (line.trim() === '' ? [] : [parseProblem(line, `${name}, line ${i + 1}`)]));
  if (problems.length === 0)
    throw new CommandError(`${name} holds no problems; each line must be like {"prompt": "12+30=", "answer": "042"}`);
  return problems;
}

function unreadable(file: string, error: NodeJS.ErrnoException): Error {
  if (error.code === 'ENOENT') return new CommandError(`there is no file "${file}"; give a JSONL file of {"prompt", "answer"}`);
  return new CommandError(`"${file}" cannot be read: ${error.message}`);
}

function parseProblem(line: string, where: string): Problem {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new CommandError(`${where} is not JSON: ${(error as Error).message}`);
  }
  const { prompt, answer, ...fields } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  if (prompt === '') throw new CommandError(`${where}, prompt: it is empty`);
  const bad = typeof prompt !== 'string' ? 'prompt' : 'answer';
  if (typeof prompt !== 'string' || typeof answer !== 'string') {
    throw new CommandError(
      `${where}, ${bad}: the line must have "prompt" and "answer" as texts, such as {"prompt": "12+30=", "answer": "042"}`,
    );
  }
  return { prompt, answer, where, fields };
}
