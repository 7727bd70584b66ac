// Builds kernels/index.ts (AssemblyScript) into src/cpu/kernels.generated.ts. With --check: fails when the committed bytes differ.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = join(root, 'src/cpu/kernels.generated.ts');

async function compile() {
  const out = mkdtempSync(join(tmpdir(), 'kernels-'));
  try {
    const file = join(out, 'kernels.wasm');
    const features = ['--enable', 'simd', '--enable', 'bulk-memory'];
    const memory = ['--importMemory', '--initialMemory', '1', '--maximumMemory', '65536'];
    const args = [
      'kernels/index.ts',
      '-O3',
      '--noAssert',
      '--runtime',
      'stub',
      ...memory,
      ...features,
      '--outFile',
      file,
      '--baseDir',
      root,
    ];
    const { error, stderr } = await asc.main(args);
    if (error) throw new Error(`${error.message}\n${stderr.toString()}`);
    return readFileSync(file);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

const bytes = await compile();
// A data segment would be written into memory that belongs to the caller's tensors.
const segments = WebAssembly.Module.customSections(new WebAssembly.Module(bytes), 'data').length;
if (segments > 0 || hasDataSection(bytes)) throw new Error('the kernels must not have data segments: keep tables out of them');

function hasDataSection(wasm) {
  let at = 8;
  while (at < wasm.length) {
    const id = wasm[at++];
    let size = 0;
    let shift = 0;
    let byte;
    do {
      byte = wasm[at++];
      size |= (byte & 0x7f) << shift;
      shift += 7;
    } while (byte & 0x80);
    if (id === 11 && size > 1) return true;
    at += size;
  }
  return false;
}

const lines = bytes.toString('base64').match(/.{1,200}/g) ?? [];
const source = `// Built from packages/tensor/kernels by packages/tensor/scripts/build-kernels.mjs: do not edit.
// ${bytes.length} bytes of WebAssembly with SIMD.
export const kernelBytes =
${lines.map((line) => `  '${line}'`).join(' +\n')};
`;
if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== source) {
    console.error('src/cpu/kernels.generated.ts does not match kernels/: run "node packages/tensor/scripts/build-kernels.mjs"');
    process.exit(1);
  }
  console.log(`kernels: ${bytes.length} bytes, as committed`);
} else {
  writeFileSync(target, source);
  console.log(`kernels: ${bytes.length} bytes written`);
}
