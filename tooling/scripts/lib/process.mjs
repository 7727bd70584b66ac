import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

export const PNPM_VERSION = '10.34.9';

/** Variables for every tool: nothing phones home, and no colour codes where no terminal shows them. */
export function toolEnvironment() {
  const plain = process.env.CI !== undefined || !process.stdout.isTTY;
  return {
    ...process.env,
    TURBO_TELEMETRY_DISABLED: '1',
    DO_NOT_TRACK: '1',
    npm_config_update_notifier: 'false',
    npm_config_fund: 'false',
    npm_config_audit: 'false',
    ...(plain ? { NO_COLOR: '1', FORCE_COLOR: '0' } : {}),
  };
}

/**
 * npm's own script `npx-cli.js` or `npm-cli.js`, started with this Node: `npx` itself is a .cmd file on Windows, which needs a shell.
 *
 * @param {'npm' | 'npx'} tool
 */
export function npmCli(tool) {
  const fromNpm = process.env.npm_execpath;
  const node = dirname(process.execPath);
  const candidates = [
    ...(fromNpm !== undefined && basename(fromNpm).startsWith('np') ? [join(dirname(fromNpm), `${tool}-cli.js`)] : []),
    join(node, '..', 'lib', 'node_modules', 'npm', 'bin', `${tool}-cli.js`),
    // Windows keeps npm beside node.exe (untested).
    join(node, 'node_modules', 'npm', 'bin', `${tool}-cli.js`),
    join(node, '..', 'share', 'nodejs', 'npm', 'bin', `${tool}-cli.js`),
  ];
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined) {
    throw new Error(`npm was not found beside Node (${process.execPath}). Start this with "npm start" or "npm test", or install npm.`);
  }
  return found;
}

/** @param {string[]} args arguments of pnpm @returns {[string, string[]]} */
export const pnpm = (args) => [process.execPath, [npmCli('npx'), '--yes', `pnpm@${PNPM_VERSION}`, ...args]];

/** @param {string[]} args arguments of npm @returns {[string, string[]]} */
export const npm = (args) => [process.execPath, [npmCli('npm'), ...args]];

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd]
 * @property {Record<string, string | undefined>} [env] added to `toolEnvironment()`
 * @property {number} [timeoutMs] the process is killed and the run counts as failed
 */

/**
 * Runs a program with its output shown as it comes.
 *
 * @param {[string, string[]]} command
 * @param {RunOptions} [options]
 * @returns {Promise<number>} the exit code; 1 when a signal ended it or it could not start
 */
export function runShown([file, args], options = {}) {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: { ...toolEnvironment(), ...options.env },
      stdio: ['ignore', 'inherit', 'inherit'],
      timeout: options.timeoutMs,
    });
    child.on('error', (error) => {
      console.error(`${file}: ${error.message}`);
      resolve(1);
    });
    child.on('close', (code) => resolve(code ?? 1));
  });
}

/**
 * Runs a program and keeps its output.
 *
 * @param {[string, string[]]} command
 * @param {RunOptions} [options]
 * @returns {Promise<{ code: number, stdout: string, stderr: string, all: string }>} `all` is both streams in the order they came
 */
export function runQuiet([file, args], options = {}) {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: { ...toolEnvironment(), ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: options.timeoutMs,
    });
    let stdout = '';
    let stderr = '';
    let all = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      all += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
      all += text;
    });
    child.on('error', (error) => resolve({ code: 1, stdout, stderr, all: `${all}${file}: ${error.message}\n` }));
    child.on('close', (code, signal) => {
      if (signal !== null) all += `ended by ${signal}${options.timeoutMs === undefined ? '' : ` (limit ${options.timeoutMs / 1000} s)`}\n`;
      resolve({ code: code ?? 1, stdout, stderr, all });
    });
  });
}

/**
 * @template T
 * @param {string} prefix
 * @param {(folder: string) => Promise<T>} body the folder is removed when it settles
 * @returns {Promise<T>}
 */
export async function inTemporaryFolder(prefix, body) {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** @param {string} path */
export const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'));
