import { existsSync, mkdtempSync } from 'node:fs';
import { cp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeSafetensors, type TensorToWrite } from '@unroll/checkpoint';
import { loadEmbedded } from '@unroll/pretrained';
import { afterAll } from 'vitest';
import type { Io } from '../src/io.js';
import { runCli } from '../src/run.js';

const folderOf = (url: string): string => fileURLToPath(new URL(url, import.meta.url));

/** Reference outputs for the embedded adder, which the repository carries. */
export const OWN_FIXTURE = folderOf('./fixtures/adder-parity/');

const SHARED = folderOf('../../../../shared/fixtures/');
export const SHARED_FIXTURES: readonly string[] = ['adder', 'huginn-small', 'huginn-steady']
  .map((name) => join(SHARED, name))
  .filter((path) => existsSync(path));

if (SHARED_FIXTURES.length < 3) {
  const notice = `NOTICE: ${3 - SHARED_FIXTURES.length} of 3 reference folders are missing beside the repository (shared/fixtures); parity on them is NOT tested in this run\n`;
  afterAll(() => void process.stderr.write(notice));
}

export const temporaryFolder = (): string => mkdtempSync(join(tmpdir(), 'unroll-cli-'));

export interface FakeOptions {
  readonly stdin?: string;
  readonly stdinTTY?: boolean;
  readonly tty?: boolean;
  readonly columns?: number;
  readonly env?: Record<string, string>;
}

export interface FakeIo extends Io {
  readonly out: () => string;
  readonly err: () => string;
  /** Presses Ctrl-C. Gives whether anything listened. */
  readonly interrupt: () => boolean;
}

export function fakeIo({ stdin = '', stdinTTY = false, tty = false, columns = 100, env = {} }: FakeOptions = {}): FakeIo {
  const written = { out: '', err: '' };
  const handlers: (() => void)[] = [];
  const stream = (key: 'out' | 'err') => ({
    write: (text: string) => {
      written[key] += text;
    },
    isTTY: tty,
    columns,
  });
  return {
    stdout: stream('out'),
    stderr: stream('err'),
    stdin: {
      isTTY: stdinTTY,
      readAll: async () => stdin,
      async *lines() {
        yield* stdin.replace(/\n$/, '').split('\n');
      },
    },
    env,
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
    onInterrupt(handler) {
      handlers.push(handler);
      return () => void handlers.splice(handlers.indexOf(handler), 1);
    },
    out: () => written.out,
    err: () => written.err,
    interrupt() {
      const handler = handlers[handlers.length - 1];
      handler?.();
      return handler !== undefined;
    },
  };
}

export interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the program in this process. */
export async function unroll(argv: readonly string[], options?: FakeOptions): Promise<Result> {
  const io = fakeIo(options);
  const code = await runCli(argv, io);
  return { code, out: io.out(), err: io.err() };
}

export const jsonLines = (text: string): Record<string, unknown>[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

/** The embedded adder as a checkpoint folder, with files changed, added or (null) left out. */
export async function adderFolder(changes: Readonly<Record<string, string | Uint8Array | null>> = {}): Promise<string> {
  const folder = temporaryFolder();
  const { config, tokenizer, tokenizerConfig, generationConfig, weights } = await loadEmbedded('adder');
  const files: Record<string, string | Uint8Array | null> = {
    'config.json': JSON.stringify(config),
    'tokenizer.json': JSON.stringify(tokenizer),
    'tokenizer_config.json': JSON.stringify(tokenizerConfig),
    'generation_config.json': JSON.stringify(generationConfig),
    'model.safetensors': weights,
    ...changes,
  };
  for (const [file, content] of Object.entries(files)) if (content !== null) await writeFile(join(folder, file), content);
  return folder;
}

/** The adder with the reference outputs that the repository carries. */
export async function adderWithExpected(): Promise<string> {
  const folder = await adderFolder();
  await cp(OWN_FIXTURE, folder, { recursive: true });
  return folder;
}

/** The files of the adder's checkpoint with one tensor changed, or left out. */
export async function adderWeights(
  change: (tensor: { name: string; shape: readonly number[]; bytes: Uint8Array }) => TensorToWrite | null,
): Promise<Uint8Array> {
  const { bytesSource, openSafetensors } = await import('@unroll/checkpoint');
  const file = await openSafetensors(bytesSource((await loadEmbedded('adder')).weights, 'adder'));
  const tensors: TensorToWrite[] = [];
  for (const [name, { shape }] of file.entries) {
    const changed = change({ name, shape, bytes: await file.read(name) });
    if (changed !== null) tensors.push(changed);
  }
  return encodeSafetensors(tensors);
}
