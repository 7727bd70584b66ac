import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCheckpoint, toFloat32 } from '@unroll/checkpoint';
import { folderFiles } from '@unroll/checkpoint/node';
import { initParams, parameterShapes, parseRecurrentConfig } from '@unroll/recurrent';
import { disposeTree } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { convertCheckpoint } from '../src/convert/convert.js';
import { unroll } from './support.js';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

// Odd heads, a head size of 6, a vocabulary and an MLP that are multiples of nothing.
const SIZES = [
  '--width',
  '30',
  '--heads',
  '5',
  '--mlp',
  '41',
  '--vocabulary',
  '403',
  '--context',
  '64',
  '--core',
  '1',
  '--prelude',
  '1',
  '--coda',
  '1',
];
let root: string;
let source: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'unroll-convert-'));
  source = join(root, 'source');
  const made = await unroll(['make-checkpoint', source, ...SIZES, '--seed', '3']);
  expect(made.err).toBe('');
  expect(made.code).toBe(0);
});
afterAll(() => rm(root, { recursive: true, force: true }));

const read = async (folder: string) => {
  const checkpoint = await openCheckpoint(folderFiles(folder));
  const all = new Map<string, Uint8Array>();
  for (const name of checkpoint.names) all.set(name, await checkpoint.read(name));
  const { entries } = checkpoint;
  await checkpoint.close();
  return { entries, all };
};

describe('make-checkpoint', () => {
  it('has the names, shapes and copies of the upload, and the weights of an untrained model', async () => {
    const { entries, all } = await read(source);
    const config = parseRecurrentConfig(JSON.parse(await readFile(join(source, 'config.json'), 'utf8')));
    expect([...entries.keys()].sort()).toEqual([...parameterShapes(config).keys(), 'lm_head.weight', 'freqs_cis'].sort());
    expect(entries.get('freqs_cis')!.shape).toEqual([1, 64, 1, 3, 2]);
    expect([...entries.values()].every(({ dtype }) => dtype === 'F32')).toBe(true);
    expect(all.get('lm_head.weight')).toEqual(all.get('transformer.wte.weight'));
    const device = createCpuDevice();
    const params = initParams(device, config, { seed: 3 });
    const core = params.transformer.core_block[0]!;
    expect(toFloat32(all.get('transformer.core_block.0.mlp.proj.weight')!, 'F32')).toEqual(await core.mlp.proj.weight.data());
    expect(toFloat32(all.get('transformer.adapter.weight')!, 'F32')).toEqual(await params.transformer.adapter!.weight.data());
    disposeTree(params);
    device.dispose();
  });

  it('gives text, with tokens that go there and back', async () => {
    const { code, out, err } = await unroll(['generate', 'Hi there', '--model', source, '--depth', '2', '--max-new-tokens', '4', '--json']);
    expect(err).toBe('');
    expect(code).toBe(0);
    expect(out.length).toBeGreaterThan(0);
  });

  it('refuses sizes that do not fit together and folders that are taken', async () => {
    expect((await unroll(['make-checkpoint', join(root, 'x'), '--width', '30', '--heads', '4'])).err).toMatch(
      /must be a multiple of the 4 heads/,
    );
    expect((await unroll(['make-checkpoint', source, ...SIZES])).err).toMatch(
      /already has "model.safetensors"; choose an empty folder or give --overwrite/,
    );
  });
});

describe('convert', () => {
  it.each(['bf16', 'f16', 'q8', 'q4'])('to %s keeps every tensor within what its rounding explains', async (format) => {
    const to = join(root, format);
    const { code, out, err } = await unroll(['convert', to, '--model', source, '--to', format, '--verify', '--json']);
    expect(err).toBe('');
    expect(code).toBe(0);
    const result = JSON.parse(out);
    expect(result.dropped.sort()).toEqual(['freqs_cis', 'lm_head.weight']);
    expect(result.verify.map((row: { format: string }) => row.format).sort()).toEqual(['f32', format].sort());
    expect((await readdir(to)).sort()).toContain('config.json');
    const { entries } = await read(to);
    expect(entries.has('lm_head.weight')).toBe(false);
  });

  it('goes on where it was killed, with the same bytes', async () => {
    const to = join(root, 'shards');
    const config = parseRecurrentConfig(JSON.parse(await readFile(join(source, 'config.json'), 'utf8')));
    const run = async () => {
      const checkpoint = await openCheckpoint(folderFiles(source));
      try {
        return await convertCheckpoint({ config, checkpoint, to, format: 'q8', shardBytes: 8000 });
      } finally {
        await checkpoint.close();
      }
    };
    await mkdir(to);
    const whole = await run();
    expect(whole.shards.length).toBeGreaterThan(3);
    expect(whole.kept).toBe(0);
    const before = await read(to);
    // What a kill leaves: shards that are whole, a temporary file, no index.
    await rm(join(to, 'model.safetensors.index.json'));
    await rm(join(to, whole.shards.at(-1)!));
    await rm(join(to, whole.shards[1]!));
    await writeFile(join(to, `.${whole.shards[1]!}.0123456789ab.tmp`), 'half');
    await writeFile(join(to, '.model.safetensors.index.json.0123456789ab.tmp'), '{');
    await expect(openCheckpoint(folderFiles(to))).rejects.toThrow();
    expect((await run()).kept).toBe(whole.shards.length - 2);
    expect((await read(to)).all).toEqual(before.all);
    expect((await readdir(to)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('refuses to go on with a source that has changed', async () => {
    const [to, changed] = [join(root, 'changed-q8'), join(root, 'changed')];
    await cp(source, changed, { recursive: true });
    const run = () => unroll(['convert', to, '--model', changed, '--to', 'q8', '--json']);
    expect((await run()).code).toBe(0);
    expect(JSON.parse((await run()).out).kept).toBe(1);
    const path = join(changed, 'model.safetensors');
    const bytes = await readFile(path);
    // The last bytes of the file are those of a tensor.
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(path, bytes);
    const { code, err } = await run();
    expect(code).toBe(1);
    expect(err).toMatch(/model.safetensors": is there with these tensors, but was made from other weights; choose an empty folder/);
  });

  it('can be shared among processes, with the same bytes', async () => {
    const to = join(root, 'shared');
    await mkdir(to);
    const config = parseRecurrentConfig(JSON.parse(await readFile(join(source, 'config.json'), 'utf8')));
    const checkpoint = await openCheckpoint(folderFiles(source));
    const options = { config, checkpoint, to, format: 'q8', shardBytes: 8000 } as const;
    await Promise.all([0, 1].map((index) => convertCheckpoint({ ...options, share: { index, of: 2 } })));
    await expect(openCheckpoint(folderFiles(to))).rejects.toThrow();
    const all = await convertCheckpoint(options);
    expect(all.kept).toBe(all.shards.length);
    const other = { ...options, to: join(root, 'bf16'), shardBytes: 1e9 };
    await expect(convertCheckpoint(other)).rejects.toThrow(/model.safetensors": is there with other tensors, from another conversion/);
    await checkpoint.close();
    expect((await read(to)).all).toEqual((await read(join(root, 'shards'))).all);
    expect((await unroll(['convert', to, '--model', source, '--to', 'q8', '--share', '2/2'])).err).toMatch(
      /--share must be I\/N with I below N/,
    );
  });

  it('says which tensor differs from its source', async () => {
    const to = join(root, 'bf16');
    const path = join(to, 'model.safetensors');
    const bytes = await readFile(path);
    const original = Buffer.from(bytes);
    bytes.fill(0x40, bytes.length - 2000);
    await writeFile(path, bytes);
    const { code, err } = await unroll(['convert', to, '--model', source, '--to', 'bf16', '--verify']);
    expect(code).toBe(1);
    expect(err).toMatch(/differ from their source by more than rounding, first transformer\./);
    await writeFile(path, original);
  });

  it('refuses another format', async () => {
    expect((await unroll(['convert', join(root, 'y'), '--model', source, '--to', 'q2'])).err).toMatch(
      /--to must be bf16, f16, q8, q4; got "q2"/,
    );
  });
});
