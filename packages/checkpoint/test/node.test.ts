import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { bytesSource, encodeSafetensors, openCheckpoint, openSafetensors, writeCheckpoint, writeSafetensors } from '../src/index.js';
import { fileSink, fileSource, folderFiles, folderSinks, removeTemporaries } from '../src/node.js';
import { refused } from './support/raw.js';
import { transpileSources } from './support/transpile.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'unroll-checkpoint-'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

const filled = (value: number, count = 1000) => ({
  name: 'a',
  dtype: 'U8' as const,
  shape: [count],
  bytes: new Uint8Array(count).fill(value),
});

describe('fileSource', () => {
  it('reads any range, many at once', async () => {
    const path = join(folder, 'ranges');
    const content = Uint8Array.from({ length: 100_000 }, (_, at) => (at * 7) % 256);
    await writeFile(path, content);
    const source = fileSource(path);
    expect(await source.size()).toBe(content.length);
    const ranges = Array.from({ length: 200 }, (_, at) => [at * 400, at * 3] as const);
    const read = await Promise.all(ranges.map(([offset, length]) => source.read(offset, length)));
    for (const [at, [offset, length]] of ranges.entries()) expect(read[at]).toEqual(content.slice(offset, offset + length));
    await refused(() => source.read(99_999, 2), { code: 'out-of-range' });
    await refused(() => source.read(0.5, 1), { code: 'out-of-range' });
    await refused(() => source.read(0, 2, new Uint8Array(1)), { code: 'bad-argument' });
    await source.close?.();
    await refused(() => source.read(0, 1), { code: 'closed' });
  });

  it('reads into shared memory, many at once, and writes nothing beside', async () => {
    const path = join(folder, 'shared');
    const content = Uint8Array.from({ length: 100_000 }, (_, at) => 1 + ((at * 7) % 255));
    await writeFile(path, content);
    const { buffer } = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
    const source = fileSource(path);
    const ends = Array.from({ length: 50 }, (_, at) => [at * 1999, at * 1999 + 1000] as const);
    await Promise.all(ends.map(([begin, end]) => source.read(begin, end - begin, new Uint8Array(buffer, begin, end - begin))));
    const expected = new Uint8Array(buffer.byteLength);
    for (const [begin, end] of ends) expected.set(content.subarray(begin, end), begin);
    expect(Buffer.compare(new Uint8Array(buffer), expected)).toBe(0);
    await source.close?.();
  });

  it('names what is missing, or not a file', async () => {
    await refused(() => fileSource(join(folder, 'none')).size(), { code: 'missing-file', file: join(folder, 'none') });
    await refused(() => fileSource(folder).size(), { code: 'read-failed', message: /not a regular file/ });
  });

  it('reports a file that shrinks while it is open', async () => {
    const path = join(folder, 'shrinks.safetensors');
    await writeFile(path, await encodeSafetensors([filled(1)]));
    const file = await openSafetensors(fileSource(path));
    await truncate(path, 100);
    await refused(() => file.read('a'), { code: 'read-failed', message: /ended at byte 100/ });
    await file.close();
  });
});

describe('folderFiles', () => {
  it('lists, looks up, reads text, and stays inside the folder', async () => {
    const path = join(folder, 'set');
    await mkdir(join(path, 'sub'), { recursive: true });
    await writeFile(join(path, 'config.json'), '{"é":1}');
    await writeFile(join(path, 'sub', 'x.json'), '{}');
    const files = folderFiles(path);
    expect(await files.list?.()).toEqual(['config.json', 'sub']);
    expect([await files.has('config.json'), await files.has('none'), await files.has('sub'), await files.has('sub/x.json')]).toEqual([
      true,
      false,
      false,
      true,
    ]);
    expect(await files.readText('config.json')).toBe('{"é":1}');
    await refused(() => files.readText('config.json', 3), { code: 'header-limit' });
    await refused(() => files.readText('none.json'), { code: 'missing-file', file: 'none.json' });
    await refused(() => folderFiles(join(folder, 'nowhere')).open('x'), { code: 'missing-file' });
    for (const outside of ['../ranges', 'sub/../../ranges', '/etc/passwd', '', '.', 'a//b', 'a\\b', 'a\u0000']) {
      await refused(() => files.has(outside), { code: 'bad-file-name' });
    }
  });

  it('follows symbolic links, as the caches of the hub are made of them', async () => {
    const path = join(folder, 'snapshot');
    await mkdir(path, { recursive: true });
    await writeFile(join(folder, 'blob'), await encodeSafetensors([filled(4)]));
    await symlink(join(folder, 'blob'), join(path, 'model.safetensors'));
    const checkpoint = await openCheckpoint(folderFiles(path));
    expect(await checkpoint.read('a')).toEqual(new Uint8Array(1000).fill(4));
    await checkpoint.close();
  });
});

describe('fileSink', () => {
  it('writes a file that reads back, and leaves no temporary', async () => {
    const path = join(folder, 'written');
    await mkdir(path, { recursive: true });
    const written = await writeCheckpoint(folderSinks(path), [filled(1), { ...filled(2), name: 'b' }], { maxShardBytes: 1000 });
    expect((await readdir(path)).sort()).toEqual(written.map(({ file }) => file).sort());
    const checkpoint = await openCheckpoint(folderFiles(path));
    expect(await checkpoint.read('b')).toEqual(new Uint8Array(1000).fill(2));
    await checkpoint.close();
    await refused(() => writeCheckpoint(folderSinks(path), [filled(1)]), { code: 'exists' });
  });

  it('replaces a file only by commit', async () => {
    const path = join(folder, 'atomic.safetensors');
    const old = await encodeSafetensors([filled(1)]);
    await writeFile(path, old);
    const sink = await fileSink(path);
    await sink.write(new Uint8Array(10));
    expect(new Uint8Array(await readFile(path))).toEqual(old);
    await sink.end();
    expect(new Uint8Array(await readFile(path))).toEqual(old);
    await refused(() => sink.write(new Uint8Array(1)), { code: 'write-failed', message: /should be writing/ });
    await sink.abort();
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    await refused(() => sink.commit(), { code: 'write-failed' });
    await writeSafetensors(await fileSink(path), [filled(2)]);
    expect(new Uint8Array(await readFile(path))).toEqual(await encodeSafetensors([filled(2)]));
  });

  it('cleans up and keeps the old file when a tensor fails half way', async () => {
    const path = join(folder, 'fails.safetensors');
    const old = await encodeSafetensors([filled(1)]);
    await writeFile(path, old);
    async function* halfWay(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(500);
      throw new Error('the source broke');
    }
    const sink = await fileSink(path);
    await expect(writeSafetensors(sink, [{ ...filled(2), bytes: halfWay() }])).rejects.toThrow('the source broke');
    expect(new Uint8Array(await readFile(path))).toEqual(old);
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('names a folder that does not exist', async () => {
    await refused(() => fileSink(join(folder, 'nowhere', 'x')), { code: 'write-failed', file: join(folder, 'nowhere', 'x') });
  });
});

describe('a killed writer', () => {
  const children: ChildProcess[] = [];
  let modules: string;

  beforeAll(async () => {
    modules = await transpileSources(join(folder, 'modules'));
  });

  afterAll(() => {
    for (const child of children) child.kill('SIGKILL');
  });

  /** Starts Node on a script that can import the package's transpiled sources. */
  function start(script: string): ChildProcess {
    const code = `import { fileSink } from ${JSON.stringify(pathToFileURL(join(modules, 'node.js')).href)};
      import { encodeSafetensors, writeSafetensors } from ${JSON.stringify(pathToFileURL(join(modules, 'index.js')).href)};
      const filled = (value) => [{ name: 'a', dtype: 'U8', shape: [200000], bytes: new Uint8Array(200000).fill(value) }];
      ${script}`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    return child;
  }

  const until = (child: ChildProcess, word: string): Promise<void> =>
    new Promise((resolve, reject) => {
      let heard = '';
      child.stdout?.on('data', (data: Buffer) => {
        heard += String(data);
        if (heard.includes(word)) resolve();
      });
      child.once('exit', () => reject(new Error(`the child ended before it said ${word}`)));
    });

  const kill = (child: ChildProcess): Promise<void> =>
    new Promise((resolve) => {
      child.once('exit', () => resolve());
      child.kill('SIGKILL');
    });

  it('between the last byte and the rename leaves the old file as it was', async () => {
    const path = join(folder, 'killed.safetensors');
    const old = await encodeSafetensors([filled(1)]);
    await writeFile(path, old);
    const child = start(`
      const sink = await fileSink(${JSON.stringify(path)});
      await sink.write(await encodeSafetensors(filled(2)));
      await sink.end();
      console.log('written');
      setInterval(() => {}, 1000);`);
    await until(child, 'written');
    await kill(child);
    expect(new Uint8Array(await readFile(path))).toEqual(old);
    const left = (await readdir(folder)).filter((name) => name.startsWith('.killed.safetensors.') && name.endsWith('.tmp'));
    expect(left.length).toBe(1);
    await writeFile(join(folder, '.other.tmp'), 'not ours');
    expect(await removeTemporaries(folder, (file) => file !== 'killed.safetensors')).not.toEqual(expect.arrayContaining(left));
    expect(await removeTemporaries(folder, (file) => file === 'killed.safetensors')).toEqual(left);
    const names = await readdir(folder);
    expect(names).not.toEqual(expect.arrayContaining(left));
    expect(names).toEqual(expect.arrayContaining(['killed.safetensors', '.other.tmp']));
    expect(await removeTemporaries(join(folder, 'nowhere'))).toEqual([]);
  });

  it('at any moment leaves one whole file, the old or the new', async () => {
    const path = join(folder, 'loop.safetensors');
    await writeSafetensors(await fileSink(path), [filled(255, 200_000)]);
    const seen = new Set<number>();
    for (let round = 0; round < 8; round++) {
      const child = start(`
        console.log('started');
        for (let value = 0; ; value = (value + 1) % 250) await writeSafetensors(await fileSink(${JSON.stringify(path)}), filled(value));`);
      await until(child, 'started');
      await new Promise((resolve) => setTimeout(resolve, 20 + round * 13));
      await kill(child);
      const file = await openSafetensors(bytesSource(new Uint8Array(await readFile(path)), path));
      const bytes = await file.read('a');
      expect(new Set(bytes).size).toBe(1);
      seen.add(bytes[0] as number);
    }
    // The loop really was writing: more than the first content was met.
    expect(seen.size).toBeGreaterThan(1);
  }, 30_000);
});
