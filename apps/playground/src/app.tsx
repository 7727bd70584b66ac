import { useEffect } from 'preact/hooks';
import { banners, device, dismiss, goTo, loading, model, view } from './state/app.js';
import type { ViewName } from './state/settings.js';
import { nextTheme, theme } from './state/theme.js';
import { Bar } from './ui/controls.js';
import { count } from './ui/format.js';
import { ChatView } from './views/chat.js';
import { DeviceView } from './views/device.js';
import { LabView } from './views/lab.js';
import { ModelsView } from './views/models.js';
import { ThinkView } from './views/think.js';
import { TrainView } from './views/train.js';

const TABS: readonly (readonly [ViewName, string])[] = [
  ['think', 'Think'],
  ['chat', 'Chat'],
  ['lab', 'Intervene'],
  ['train', 'Train'],
  ['models', 'Models'],
  ['device', 'Device'],
];

const PAGES: Readonly<Record<ViewName, () => preact.JSX.Element>> = {
  think: ThinkView,
  chat: ChatView,
  lab: LabView,
  train: TrainView,
  models: ModelsView,
  device: DeviceView,
};

function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M16 27a11 11 0 1 1 10.4-7.4" />
      <path d="M16 22a6 6 0 1 1 5.6-4" />
      <circle cx="16" cy="16" r="2.2" />
    </svg>
  );
}

function Banners() {
  return (
    <div class="banners">
      {banners.value.map(({ key, level, text, actions }) => (
        <div key={key} class={`banner ${level}`} role={level === 'problem' ? 'alert' : 'status'}>
          <p>{text}</p>
          {actions.map(({ label, run }) => (
            <button key={label} type="button" onClick={run}>
              {label}
            </button>
          ))}
          <button type="button" class="icon" aria-label="Dismiss" onClick={() => dismiss(key)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}

function Header() {
  const info = model.value;
  const where = device.value;
  const now = loading.value;
  return (
    <header class="top">
      <a class="brand" href="./" aria-label="Unroll, start page">
        <Logo /> Unroll
      </a>
      <nav aria-label="Views">
        {TABS.map(([name, text]) => (
          <button key={name} type="button" aria-current={view.value === name ? 'page' : undefined} onClick={() => goTo(name)}>
            {text}
          </button>
        ))}
      </nav>
      <div class="status" aria-live="polite">
        {now === undefined ? (
          <>
            <button type="button" class="pill" onClick={() => goTo('models')}>
              {info === undefined ? 'no model' : `${info.name} · ${count(info.parameters)}`}
            </button>
            <button type="button" class="pill" title={where?.reason} onClick={() => goTo('device')}>
              {where === undefined
                ? 'no device'
                : where.kind === 'cpu'
                  ? `CPU · ${where.threads} ${where.threads === 1 ? 'thread' : 'threads'}`
                  : 'WebGPU'}
            </button>
          </>
        ) : (
          <div class="pill loading">
            <span>{now.what}</span>
            <Bar part={now.total > 0 ? now.loaded / now.total : 0} label="Loading the model" />
          </div>
        )}
        <button
          type="button"
          class="icon"
          aria-label={`Theme: ${theme.value}; change it`}
          title={`Theme: ${theme.value}`}
          onClick={nextTheme}
        >
          {theme.value === 'dark' ? '☾' : theme.value === 'light' ? '☀' : '◐'}
        </button>
      </div>
    </header>
  );
}

export function App() {
  const Page = PAGES[view.value];
  const name = view.value;
  useEffect(() => window.scrollTo(0, 0), [name]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <Header />
      <Banners />
      <main id="main" tabIndex={-1} data-view={name}>
        <Page />
      </main>
      <footer>
        <p>
          Everything runs in this tab: no server sees your text. Model code, kernels and sampler are Unroll’s own packages; the architecture
          is <a href="https://arxiv.org/abs/2502.05171">arXiv 2502.05171</a>. The address of this page holds its settings.{' '}
          <a href="./third-party.txt">Licences of parts</a>
        </p>
      </footer>
    </>
  );
}
