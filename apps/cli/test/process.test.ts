import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'tsup';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from './support.js';

// The program as one bundle of the workspace's sources, so that it runs on a Node without TypeScript whatever the state of `dist`.
const folder = temporaryFolder();
const main = join(folder, 'main.mjs');

beforeAll(async () => {
  await build({
    entry: {
      main: fileURLToPath(new URL('../src/main.ts', import.meta.url)),
      'process-io': fileURLToPath(new URL('../src/process-io.ts', import.meta.url)),
    },
    outDir: folder,
    outExtension: () => ({ js: '.mjs' }),
    format: ['esm'],
    target: 'es2022',
    platform: 'node',
    noExternal: [/./],
    config: false,
    tsconfig: fileURLToPath(new URL('../tsconfig.json', import.meta.url)),
    silent: true,
    splitting: true,
    banner: { js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);" },
    esbuildOptions(options) {
      options.conditions = ['@unroll/source', 'module', 'node', 'import', 'default'];
    },
  });
}, 120_000);

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

function start(args: readonly string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, NO_COLOR: '', FORCE_COLOR: '', ...env } });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, out, err }));
  });
  return { child, ended, seen: () => out };
}

async function run(args: readonly string[], stdin?: string): Promise<Ended> {
  const { child, ended } = start(args);
  child.stdin.end(stdin);
  return ended;
}

describe('the process', () => {
  it('answers, reading a pipe', async () => {
    expect(await run(['generate', '--init-scale', '0'], '731+094=\n')).toEqual({ code: 0, signal: null, out: '0825\n', err: '' });
  });

  it('loads a linked package once, before and behind the reading of a pipe', async () => {
    const [real, at] = [join(folder, 'real'), join(folder, 'app')];
    await Promise.all([mkdir(real), mkdir(join(at, 'node_modules'), { recursive: true })]);
    await symlink(real, join(at, 'node_modules', 'linked'), 'junction');
    await writeFile(join(real, 'package.json'), JSON.stringify({ type: 'module', exports: './index.js' }));
    await writeFile(join(real, 'index.js'), 'globalThis.loaded = (globalThis.loaded ?? 0) + 1;');
    const script = `import '../real/index.js'; import { processIo } from '../process-io.mjs';
      await processIo().stdin.readAll(); await import('linked'); console.log(globalThis.loaded);`;
    await writeFile(join(at, 'main.mjs'), script);
    const child = spawn(process.execPath, [join(at, 'main.mjs')], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.end('a prompt');
    let out = '';
    for await (const chunk of child.stdout) out += String(chunk);
    expect(out).toBe('1\n');
  });

  it('ends with 2 for bad usage and 1 for failure, on stderr alone', async () => {
    const usage = await run(['generate', '1+1=', '--dpeth', '2']);
    expect([usage.code, usage.out]).toEqual([2, '']);
    expect(usage.err).toMatch(/^error generate: unknown flag --dpeth; did you mean --depth\?/);
    const failure = await run(['inspect', '--model', '/no/such']);
    expect([failure.code, failure.out]).toEqual([1, '']);
  });

  it('ends with 130 on Ctrl-C in the middle of work', async () => {
    const { child, ended, seen } = start(['generate', '1', '--depth', '300', '-n', '60', '--temperature', '2', '--json']);
    while (!seen().includes('\n')) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGINT');
    const { code, signal, out } = await ended;
    expect([code, signal]).toEqual([130, null]);
    expect(out).not.toContain('"finish"');
  });

  it('is content when the reader of its output leaves early', async () => {
    const { child, ended } = start(['generate', '1', '--depth', '30', '-n', '60', '--temperature', '2', '--json']);
    child.stdout.once('data', () => child.stdout.destroy());
    const { code, err } = await ended;
    expect([code, err]).toEqual([0, '']);
  });

  it('writes no escape codes into a pipe, and writes them where FORCE_COLOR asks', async () => {
    expect((await run(['inspect'])).out).not.toContain('\u001b');
    const { child, ended } = start(['inspect'], { FORCE_COLOR: '1' });
    child.stdin.end();
    expect((await ended).out).toContain('\u001b[1m');
  });

  it('ends cleanly with the device in use, 12 times of 12', async () => {
    const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';
    const driver = process.env.VK_DRIVER_FILES ?? (existsSync(swiftShader) ? swiftShader : undefined);
    const env = { XDG_RUNTIME_DIR: tmpdir(), ...(driver === undefined ? {} : { VK_DRIVER_FILES: driver }) };
    for (let i = 0; i < 12; i++) {
      // A text to its end, a failure behind the load, and a device that was only opened: each ends by another way.
      const [args, code] = (
        [
          [['generate', '731+094=', '--init-scale', '0', '--depth', '2'], 0],
          [['generate', '--tokens', '99', '--depth', '2'], 2],
          [['inspect', '--json'], 0],
        ] as const
      )[i % 3]!;
      const { child, ended } = start([...args, '--device', 'webgpu'], env);
      child.stdin.end();
      const result = await ended;
      expect({ i, code: result.code, signal: result.signal, err: result.err.replace(/^error .*\n$/, 'error') }).toEqual({
        i,
        code,
        signal: null,
        err: code === 0 ? '' : 'error',
      });
      expect(result.out === '').toBe(code !== 0);
    }
  }, 120_000);
});
