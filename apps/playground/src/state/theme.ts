import { effect, signal } from '@preact/signals';

const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const KEY = 'unroll-theme';

function read(): Theme {
  try {
    return THEMES.find((name) => name === localStorage.getItem(KEY)) ?? 'system';
  } catch {
    // Storage may be forbidden: then the choice lasts as long as the page.
    return 'system';
  }
}

export const theme = signal<Theme>(read());

export const nextTheme = (): void => {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!;
};

/** Colours of the theme that canvases read. As colours, not as text, so that what they read has been decided between light and dark. */
const READ = ['--line', '--quiet', '--text'];

export function followTheme(): void {
  for (const name of READ) CSS.registerProperty({ name, syntax: '<color>', inherits: true, initialValue: 'gray' });
  effect(() => {
    const { dataset } = document.documentElement;
    if (theme.value === 'system') delete dataset.theme;
    else dataset.theme = theme.value;
    try {
      localStorage.setItem(KEY, theme.value);
    } catch {
      // As above.
    }
  });
}
