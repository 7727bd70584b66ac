import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const name = 'torch';
export const packages = [];
export const webAssembly = false;
export const kinds = { gemm: [], decoder: [], train: true };

const SCRIPT = fileURLToPath(new URL('../../torch/train.py', import.meta.url));

/** Debian installs torch with a reference BLAS, ten times slower than the OpenBLAS that lies beside it. */
function libraryPath() {
  const root = '/usr/lib';
  if (!existsSync(root)) return undefined;
  return readdirSync(root)
    .map((folder) => join(root, folder, 'openblas-pthread'))
    .find((folder) => existsSync(folder));
}

export async function open({ threads }) {
  const python = process.env.PYTHON ?? (existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3');
  const found = libraryPath();
  const paths = [found, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':');
  const env = { ...process.env, LD_LIBRARY_PATH: paths, OMP_NUM_THREADS: String(threads), OPENBLAS_NUM_THREADS: String(threads) };
  try {
    execFileSync(python, ['-c', 'import torch'], { env, stdio: 'ignore' });
  } catch {
    throw new Error(`${python} has no torch; on Debian: apt-get install python3-torch libopenblas0-pthread`);
  }
  return {
    train(job) {
      const folder = mkdtempSync(join(tmpdir(), 'bench-torch-'));
      try {
        const path = join(folder, 'job.json');
        writeFileSync(path, JSON.stringify({ ...job, threads }));
        const { stdout, stderr, status } = spawnSync(python, [SCRIPT, path], { env, encoding: 'utf8' });
        if (status !== 0) throw new Error(stderr.trim().split('\n').at(-1));
        return JSON.parse(stdout.trim().split('\n').at(-1));
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
    close: () => {},
  };
}
