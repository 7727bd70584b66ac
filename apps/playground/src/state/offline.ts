/** Registers the service worker, which keeps the app for offline use and gives it the headers for threads where the server does not. */
export function startOffline(): void {
  if (!('serviceWorker' in navigator) || import.meta.env.DEV) return;
  const register = () => {
    navigator.serviceWorker.register('./sw.js').catch((error: unknown) => {
      // Private windows and plain http refuse it; the page works without.
      console.info('no service worker, so the page does not work offline:', error);
    });
  };
  if (document.readyState === 'complete') register();
  else addEventListener('load', register, { once: true });
}
