import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runQuiet } from './lib/process.mjs';

/**
 * The flags under which headless Chromium shows WebGPU on machines without a GPU and stays off the network. Without `--no-sandbox` it does
 * not start as root.
 */
export const CHROMIUM_ARGS = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The headers under which a page is cross-origin isolated, which SharedArrayBuffer needs. */
export const ISOLATION_HEADERS = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

const COMMANDS = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'microsoft-edge', 'microsoft-edge-stable'];

/** @param {string | undefined} path */
function isExecutable(path) {
  if (path === undefined || path === '') return false;
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** @returns {string[]} usual places of the platform; those of macOS and Windows are untested */
function usualPlaces() {
  if (process.platform === 'darwin') {
    return ['Google Chrome', 'Chromium', 'Microsoft Edge'].map((name) => `/Applications/${name}.app/Contents/MacOS/${name}`);
  }
  if (process.platform === 'win32') {
    const roots = [process.env.PROGRAMFILES, process.env['PROGRAMFILES(X86)'], process.env.LOCALAPPDATA];
    const programs = [
      'Google\\Chrome\\Application\\chrome.exe',
      'Chromium\\Application\\chrome.exe',
      'Microsoft\\Edge\\Application\\msedge.exe',
    ];
    return roots.flatMap((root) => (root === undefined ? [] : programs.map((program) => `${root}\\${program}`)));
  }
  const folders = (process.env.PATH ?? '').split(delimiter);
  return COMMANDS.flatMap((command) => folders.map((folder) => join(folder, command)));
}

/** @returns {string[]} browsers that `playwright install chromium` has put into its cache, newest first */
function playwrightOwn() {
  const caches = { linux: '.cache/ms-playwright', darwin: 'Library/Caches/ms-playwright', win32: 'AppData/Local/ms-playwright' };
  const usual = caches[/** @type {keyof typeof caches} */ (process.platform)] ?? caches.linux;
  const cache = process.env.PLAYWRIGHT_BROWSERS_PATH || join(homedir(), usual);
  if (!existsSync(cache)) return [];
  const inside = [
    'chrome-linux/chrome',
    'chrome-linux64/chrome',
    'chrome-mac/Chromium.app/Contents/MacOS/Chromium',
    'chrome-win/chrome.exe',
  ];
  const versions = readdirSync(cache).filter((name) => /^chromium-\d+$/.test(name));
  versions.sort((a, b) => Number(b.slice(9)) - Number(a.slice(9)));
  return versions.flatMap((name) => inside.map((path) => join(cache, name, path)));
}

/**
 * A Chromium-like browser that is on this machine: CHROME_PATH, an installed one, Playwright's own.
 *
 * @returns {string | undefined} its path
 * @throws {Error} when CHROME_PATH is set to something that cannot be run: another browser in its place would hide the mistake
 */
export function findChromium() {
  const named = process.env.CHROME_PATH;
  if (named !== undefined && named !== '') {
    if (isExecutable(named)) return named;
    throw new Error(`CHROME_PATH is "${named}", which is not a program that can be run. Correct it or unset it.`);
  }
  return [...usualPlaces(), ...playwrightOwn()].find(isExecutable);
}

const HOW_TO_INSTALL =
  'No Chromium, Chrome or Edge was found. Install one ("apt-get install chromium libvulkan1" on Debian, as root; or "npx playwright@1.65.1 install ' +
  '--with-deps chromium" anywhere), or set CHROME_PATH to its program.';

/**
 * As `findChromium`, but installs Debian's chromium where that can be done without asking (root on a system with apt-get).
 *
 * @param {(line: string) => void} [log]
 * @returns {Promise<string>} its path
 * @throws {Error} that says which command to type
 */
export async function ensureChromium(log = console.log) {
  const present = findChromium();
  if (present !== undefined) return present;
  const isRoot = process.getuid?.() === 0;
  if (process.platform !== 'linux' || !isRoot || !existsSync('/usr/bin/apt-get')) throw new Error(HOW_TO_INSTALL);
  log('No Chromium here: installing the chromium package with apt-get (about 100 MB, once)');
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const update = await runQuiet(['apt-get', ['update']], { env, timeoutMs: 300_000 });
  const install = await runQuiet(['apt-get', ['install', '-y', '--no-install-recommends', 'chromium', 'libvulkan1']], {
    env,
    timeoutMs: 600_000,
  });
  const installed = findChromium();
  if (installed !== undefined) return installed;
  throw new Error(`apt-get could not install chromium:\n${update.code === 0 ? '' : update.all}${install.all}\n${HOW_TO_INSTALL}`);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  console.log(await ensureChromium(console.error));
