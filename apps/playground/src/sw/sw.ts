// Keeps the app in a cache, so that it starts without a network, and gives every answer the headers of cross-origin isolation, so that
// threads work on static hosts that cannot set them.

interface ExtendableEvent extends Event {
  waitUntil(promise: Promise<unknown>): void;
}
interface FetchEvent extends ExtendableEvent {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}
interface Scope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(type: 'install' | 'activate', listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: 'fetch', listener: (event: FetchEvent) => void): void;
}

/** Put in by the build: every file of the app, and a name that changes with them. */
declare const __FILES__: readonly string[];
declare const __VERSION__: string;

const scope = self as unknown as Scope;
const CACHE = `unroll-${__VERSION__}`;

scope.addEventListener('install', (event) => {
  const urls = ['./', ...__FILES__].map((file) => new URL(file, scope.registration.scope).href);
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(urls))
      .then(() => scope.skipWaiting()),
  );
});

scope.addEventListener('activate', (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter((name) => name.startsWith('unroll-') && name !== CACHE).map((name) => caches.delete(name))))
      .then(() => scope.clients.claim()),
  );
});

function isolated(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  // The page's settings are in the query, so that it is one page whatever they are.
  const known = await cache.match(request.mode === 'navigate' ? new URL('./', scope.registration.scope).href : request);
  if (known !== undefined) return isolated(known);
  return isolated(await fetch(request));
}

scope.addEventListener('fetch', (event) => {
  const { request } = event;
  const own = request.url.startsWith(scope.registration.scope);
  // Models go their own way: the page keeps them itself, and asks for parts of them.
  if (request.method === 'GET' && own && !request.headers.has('range')) event.respondWith(answer(request));
});
