import { CheckpointError, checkOptions, quote } from './errors.js';
import type { FileSet } from './file-set.js';
import { httpFiles } from './http.js';

/** A repository of models on huggingface.co, or on a server with the same paths. */
export interface HubOptions {
  /** `organisation/name`. */
  readonly repo: string;
  /** Branch, tag or commit; `main` when absent. */
  readonly revision?: string;
  /** `https://huggingface.co` when absent. */
  readonly endpoint?: string;
  /** Sent to the endpoint, and to no other host that it redirects to. */
  readonly token?: string;
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
  readonly signal?: AbortSignal;
}

export const HUB_ENDPOINT = 'https://huggingface.co';
const OPTION_NAMES = ['repo', 'revision', 'endpoint', 'token', 'fetch', 'signal'];
const REPO = /^[\w.-]+\/[\w.-]+$/;
const REVISION = /^[\w.-]+(\/[\w.-]+)*$/;
const MOST_REDIRECTS = 5;

/** Whether a text has the form of a repository id. */
export const isHubRepo = (text: string): boolean => REPO.test(text) && !text.split('/').some((part) => /^\.+$/.test(part));

/** A checked repository and revision. Throws CheckpointError `bad-argument`. */
export function hubPlace(options: HubOptions): { readonly repo: string; readonly revision: string; readonly endpoint: string } {
  const { repo, revision = 'main', endpoint = HUB_ENDPOINT } = options;
  if (!isHubRepo(repo)) throw new CheckpointError('bad-argument', `${quote(repo)}: a repository is named ORGANISATION/NAME.`);
  if (!REVISION.test(revision) || revision.includes('..')) {
    throw new CheckpointError('bad-argument', `${quote(revision)}: a revision is a branch, a tag or a commit.`);
  }
  return { repo, revision, endpoint: endpoint.replace(/\/+$/, '') };
}

/** Where a file of a repository is served. */
export function hubFileUrl(options: HubOptions, file: string, revision?: string): string {
  const place = hubPlace(options);
  const path = file.split('/').map(encodeURIComponent).join('/');
  return `${place.endpoint}/${place.repo}/resolve/${encodeURIComponent(revision ?? place.revision)}/${path}`;
}

/**
 * The files of a repository, read by HTTP ranges as they are needed and kept nowhere: the way of a browser. `downloadFromHub` of
 * `@unroll/checkpoint/node` keeps them in a folder.
 */
export function hubFiles(options: HubOptions): FileSet {
  checkOptions('hubFiles', options, OPTION_NAMES);
  const { repo, revision } = hubPlace(options);
  const { token, fetch, signal } = options;
  const files = httpFiles(`${hubFileUrl(options, '')}`, {
    ...(token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }),
    ...(fetch === undefined ? {} : { fetch }),
    ...(signal === undefined ? {} : { signal }),
  });
  return { ...files, name: `${repo}@${revision}` };
}

/**
 * A request that follows redirects by itself, so that the token goes to the endpoint's own host alone. `until` ends it early with the
 * redirect itself: the first answer of the endpoint says what a file is. Throws CheckpointError `read-failed`, `aborted`, `http-status`.
 */
export async function hubRequest(
  options: HubOptions,
  url: string,
  init: { readonly method?: 'GET' | 'HEAD'; readonly range?: string; readonly signal?: AbortSignal },
  until: (response: Response) => boolean = () => false,
): Promise<Response> {
  const send = options.fetch ?? globalThis.fetch;
  const home = new URL(hubPlace(options).endpoint).origin;
  let at = url;
  for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (init.range !== undefined) headers.range = init.range;
    if (options.token !== undefined && new URL(at).origin === home) headers.authorization = `Bearer ${options.token}`;
    const { signal = options.signal } = init;
    const response = await send(at, {
      method: init.method ?? 'GET',
      headers,
      redirect: 'manual',
      ...(signal === undefined ? {} : { signal }),
    });
    const location = response.headers.get('location');
    if (response.status < 300 || response.status >= 400 || location === null || until(response)) return response;
    response.body?.cancel().catch(() => undefined);
    at = new URL(location, at).href;
  }
  throw new CheckpointError('http-status', `${quote(url)}: more than ${MOST_REDIRECTS} redirects.`, { file: url });
}

/** What an answer other than a success means to somebody who wants a file of a repository. */
export function hubStatusError(options: HubOptions, file: string | undefined, response: Response): CheckpointError {
  const { repo, revision, endpoint } = hubPlace(options);
  const { status } = response;
  const what = file === undefined ? quote(`${repo}@${revision}`) : `${quote(`${repo}@${revision}`)}: ${quote(file)}`;
  const details = { status, ...(file === undefined ? { file: repo } : { file }) };
  const code = response.headers.get('x-error-code');
  const says = response.headers.get('x-error-message');
  if (status === 401 || status === 403 || code === 'GatedRepo') {
    const advice =
      options.token === undefined
        ? `accept its terms on ${endpoint}/${repo} and give a token (HF_TOKEN); a repository that does not exist is answered alike`
        : `the token may not read it: accept the terms on ${endpoint}/${repo} with the account of the token`;
    return new CheckpointError('gated', `${what}: the hub answered ${status}: access is restricted; ${advice}.`, details);
  }
  if (status === 404) {
    const missing =
      code === 'RevisionNotFound'
        ? `there is no revision ${quote(revision)}`
        : code === 'EntryNotFound'
          ? 'there is no such file'
          : 'there is no such repository, revision or file';
    return new CheckpointError('missing-file', `${what}: ${missing} on ${endpoint}.`, details);
  }
  const advice = status === 429 ? ' The hub limits the rate: try again later, or give a token (HF_TOKEN).' : '';
  return new CheckpointError('http-status', `${what}: the hub answered ${status}${says === null ? '' : ` (${says})`}.${advice}`, details);
}
