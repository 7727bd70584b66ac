import { describe, expect, it } from 'vitest';
import { encodeSafetensors, fromFloat32, hubFiles, isHubRepo, openCheckpoint, toFloat32 } from '../src/index.js';

// A hub as a browser meets it: by fetch alone, with ranges, nothing kept.

async function hub() {
  const weights = await encodeSafetensors(
    ['a', 'b'].map((name, i) => ({
      name,
      dtype: 'F32' as const,
      shape: [40_000],
      bytes: fromFloat32(new Float32Array(40_000).fill(i + 1), 'F32'),
    })),
  );
  const files: Record<string, Uint8Array> = { 'config.json': new TextEncoder().encode('{"n_embd": 8}'), 'model.safetensors': weights };
  const seen: { url: string; headers: Headers }[] = [];
  let sent = 0;
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    const headers = new Headers(init.headers);
    seen.push({ url, headers });
    const file = files[url.replace('https://hub.test/org/model/resolve/main/', '')];
    if (file === undefined) return new Response('Entry not found', { status: 404 });
    const range = /^bytes=(\d+)-(\d+)$/.exec(headers.get('range') ?? '');
    if (range === null) return new Response(file.slice(), { status: 200, headers: { 'content-length': String(file.length), etag: '"1"' } });
    const [first, last] = [Number(range[1]), Math.min(Number(range[2]), file.length - 1)];
    sent += last - first + 1;
    return new Response(file.slice(first, last + 1), {
      status: 206,
      headers: { 'content-range': `bytes ${first}-${last}/${file.length}`, 'content-length': String(last - first + 1), etag: '"1"' },
    });
  };
  const open = (repo = 'org/model') => hubFiles({ repo, endpoint: 'https://hub.test/', token: 'secret', fetch });
  return { weights, seen, open, sent: () => sent };
}

describe('hubFiles', () => {
  it('reads the configuration, and of the weights what is asked for', async () => {
    const { weights, seen, open, sent } = await hub();
    const files = open();
    expect(files.name).toBe('org/model@main');
    expect(await files.readText('config.json')).toBe('{"n_embd": 8}');
    expect(await files.has('tokenizer.json')).toBe(false);
    const checkpoint = await openCheckpoint(files);
    expect(checkpoint.names).toEqual(['a', 'b']);
    expect(toFloat32(await checkpoint.readSlice('b', 159_996, 160_000), 'F32')).toEqual(Float32Array.of(2));
    await checkpoint.close();
    expect(sent()).toBeLessThan(weights.length / 2);
    expect(seen.every(({ headers }) => headers.get('authorization') === 'Bearer secret')).toBe(true);
  });

  it('says what is missing, and what is no repository', async () => {
    const { open } = await hub();
    await expect(open().open('pytorch_model.bin')).rejects.toMatchObject({ code: 'missing-file' });
    await expect(openCheckpoint(open('org/other'))).rejects.toMatchObject({ code: 'missing-file' });
    expect(() => open('model')).toThrow(/a repository is named ORGANISATION\/NAME/);
    expect(() => hubFiles({ repo: 'org/model', revision: '../main' })).toThrow(/a revision is a branch/);
    expect(['a/b', 'a', './b', 'a/b/c', 'a/..'].map(isHubRepo)).toEqual([true, false, false, false, false]);
  });
});
