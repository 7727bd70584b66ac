import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { median } from '../statistics.mjs';

const ROUNDS = 5;

/** Milliseconds from starting a process to its first output. */
function firstOutput(args) {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let errors = '';
    let ms;
    child.stderr.on('data', (text) => (errors += text));
    child.stdout.once('data', () => {
      ms = performance.now() - started;
      child.kill('SIGKILL');
    });
    child.on('close', () => (ms === undefined ? reject(new Error(errors.trim().split('\n').at(-1) || 'it printed nothing')) : resolve(ms)));
  });
}

/** From the start of a process to its first result, which it prints; the first run warms the file cache and is not counted. */
export async function run(_, { what, kind, script, args }) {
  const command = [fileURLToPath(new URL(script, import.meta.url)), ...args];
  await firstOutput(command);
  const list = [];
  for (let i = 0; i < ROUNDS; i++) list.push(await firstOutput(command));
  return [{ what, kind, unit: 'ms', value: median(list) }];
}
