/** Calls `f` whenever the page's colours change: by its own button, or with the system. Gives what ends that. */
export function onTheme(f: () => void): () => void {
  const own = new MutationObserver(f);
  own.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  const system = matchMedia('(prefers-color-scheme: dark)');
  system.addEventListener('change', f);
  return () => {
    own.disconnect();
    system.removeEventListener('change', f);
  };
}
