import { NetworkError } from './errors.js';

/** One file that a source offers. */
export interface RemoteFile {
  readonly name: string;
  readonly url: string;
  /** Undefined where only the download tells. */
  readonly bytes: number | undefined;
  readonly sha256: string | undefined;
}

/** What a model needs, besides weights. */
const SMALL_FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json', 'README.md'];
const WEIGHTS = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const SUMS = 'SHA256SUMS';

export const isHubId = (origin: string): boolean => /^[\w.-]+\/[\w.-]+$/.test(origin);

async function ask(url: string, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(url, { signal });
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw new NetworkError(
      `${url} could not be reached (${(error as Error).message}); check the address and that its server allows other pages to read it (CORS)`,
    );
  }
}

/** The files of a hub repository with their SHA-256, from the hub's listing. */
async function listHub(id: string, endpoint: string, revision: string, signal: AbortSignal): Promise<RemoteFile[]> {
  const base = endpoint.replace(/\/$/, '');
  const response = await ask(`${base}/api/models/${id}/tree/${encodeURIComponent(revision)}?recursive=true`, signal);
  if (!response.ok)
    throw new NetworkError(
      `the hub has no public model "${id}" at revision "${revision}" (it answered ${response.status}); check the name, or download the folder and drop it here`,
    );
  const entries = (await response.json()) as { type: string; path: string; size: number; lfs?: { oid?: string; size?: number } }[];
  return entries
    .filter(({ type, path }) => type === 'file' && isWanted(path))
    .map(({ path, size, lfs }) => ({
      name: path,
      url: `${base}/${id}/resolve/${encodeURIComponent(revision)}/${path}`,
      bytes: lfs?.size ?? size,
      sha256: lfs?.oid,
    }));
}

const isWanted = (path: string): boolean =>
  SMALL_FILES.includes(path) || path === INDEX || (path.endsWith('.safetensors') && !path.includes('/'));

/** Lines of `sha256sum`: hash, two blanks or a blank and a star, name. */
function readSums(text: string): Map<string, string> {
  return new Map([...text.matchAll(/^([0-9a-f]{64})[ \t]+\*?(.+)$/gim)].map(([, hash, name]) => [name!.trim(), hash!.toLowerCase()]));
}

/** RFC 9530: `Repr-Digest: sha-256=:BASE64:`. */
function digestOf(response: Response): string | undefined {
  const base64 = /sha-256=:([A-Za-z0-9+/=]+):/.exec(response.headers.get('repr-digest') ?? '')?.[1];
  return base64 === undefined
    ? undefined
    : Array.from(atob(base64), (character) => character.charCodeAt(0).toString(16).padStart(2, '0')).join('');
}

interface Head {
  readonly bytes: number | undefined;
  readonly sha256: string | undefined;
}

/** Undefined where the server has no such file. Servers of single pages answer everything with a page. */
async function head(url: string, signal: AbortSignal): Promise<Head | undefined> {
  const response = await ask(url, signal).then(async (found) => {
    await found.body?.cancel();
    return found;
  });
  if (!response.ok || /text\/html/i.test(response.headers.get('content-type') ?? '')) return undefined;
  const length = response.headers.get('content-length');
  const encoded = response.headers.get('content-encoding') !== null;
  return { bytes: length === null || encoded ? undefined : Number(length), sha256: digestOf(response) };
}

async function listFolder(url: string, signal: AbortSignal): Promise<RemoteFile[]> {
  const base = url.endsWith('/') ? url : `${url}/`;
  const sums = await ask(base + SUMS, signal).then(async (response) =>
    response.ok && !/text\/html/i.test(response.headers.get('content-type') ?? '')
      ? readSums(await response.text())
      : new Map<string, string>(),
  );
  const found: RemoteFile[] = [];
  const look = async (name: string): Promise<boolean> => {
    const one = await head(base + name, signal);
    if (one === undefined) return false;
    found.push({ name, url: base + name, bytes: one.bytes, sha256: sums.get(name) ?? one.sha256 });
    return true;
  };
  for (const name of SMALL_FILES) await look(name);
  if (!found.some(({ name }) => name === 'config.json'))
    throw new NetworkError(`${base} has no config.json; give the address of a checkpoint's folder, or a hub id such as owner/model`);
  if (!(await look(WEIGHTS))) {
    if (!(await look(INDEX))) throw new NetworkError(`${base} has neither ${WEIGHTS} nor ${INDEX}`);
    const index = (await (await ask(base + INDEX, signal)).json()) as { weight_map: Record<string, string> };
    for (const shard of new Set(Object.values(index.weight_map))) {
      if (!(await look(shard))) throw new NetworkError(`${base} lacks the shard ${shard} that its index names`);
    }
  }
  return found;
}

/** The files that a hub id or the URL of a folder offers. Throws NetworkError. */
export async function listRemote(origin: string, endpoint: string, revision: string, signal: AbortSignal): Promise<RemoteFile[]> {
  if (isHubId(origin)) return listHub(origin, endpoint, revision, signal);
  if (/^https?:\/\//.test(origin)) return listFolder(origin, signal);
  throw new NetworkError(`"${origin}" is neither a hub id such as owner/model nor an address that begins with https://`);
}
