import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { readJson, runQuiet } from '../../scripts/lib/process.mjs';

/** @typedef {import('./pack.mjs').Packed} Packed */

/** @param {Packed} packed @returns {Promise<string[]>} problems; suggestions count as well */
export async function publintProblems(packed) {
  const bytes = readFileSync(packed.tarball);
  const tarball = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const { messages } = await publint({ pack: { tarball: /** @type {ArrayBuffer} */ (tarball) }, strict: true });
  return messages.map((message) => `${message.type}: ${formatMessage(message, packed.manifest)}`);
}

/** @param {Packed} packed @returns {Promise<string[]>} problems of "are the types wrong" for users of ES modules */
export async function typesWrongProblems(packed) {
  const manifest = createRequire(import.meta.url).resolve('@arethetypeswrong/cli/package.json');
  const bin = join(dirname(manifest), readJson(manifest).bin.attw);
  const args = [bin, packed.tarball, '--profile', 'esm-only', '--format', 'ascii', '--no-color', '--no-emoji'];
  const result = await runQuiet([process.execPath, args], { timeoutMs: 120_000 });
  return result.code === 0 ? [] : [result.all];
}
