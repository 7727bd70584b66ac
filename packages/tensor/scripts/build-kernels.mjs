// Builds kernels/ (AssemblyScript) into src/cpu/kernels.generated.ts: twice, with plain and with relaxed SIMD. With --check: fails when the
// committed bytes differ.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = join(root, 'src/cpu/kernels.generated.ts');

/** @param {string[]} entries @param {string[]} features @param {string} dispatch source of the module ./dispatch */
async function compile(entries, features, dispatch = '') {
  const out = mkdtempSync(join(tmpdir(), 'kernels-'));
  try {
    const file = join(out, 'kernels.wasm');
    const enabled = ['simd', 'bulk-memory', 'threads', ...features].flatMap((feature) => ['--enable', feature]);
    const memory = ['--importMemory', '--initialMemory', '1', '--maximumMemory', '65536'];
    const args = [...entries, '-O3', '--noAssert', '--runtime', 'stub', ...memory, ...enabled, '--outFile', file, '--baseDir', root];
    const { error, stderr } = await asc.main(args, {
      readFile(name, base) {
        if (name === 'kernels/dispatch.ts') return dispatch;
        const path = join(base, name);
        return existsSync(path) ? readFileSync(path, 'utf8') : null;
      },
    });
    if (error) throw new Error(`${error.message}\n${stderr.toString()}`);
    return readFileSync(file);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Sections of a module by id. @param {Uint8Array} wasm */
function sectionsOf(wasm) {
  /** @type {Map<number, Reader>} */
  const sections = new Map();
  const reader = new Reader(wasm, 8);
  while (reader.at < wasm.length) {
    const id = reader.byte();
    const size = reader.number();
    sections.set(id, new Reader(wasm, reader.at));
    reader.at += size;
  }
  return sections;
}

class Reader {
  /** @param {Uint8Array} bytes @param {number} at */
  constructor(bytes, at) {
    this.bytes = bytes;
    this.at = at;
  }

  byte() {
    return this.bytes[this.at++];
  }

  number() {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  /** @template T @param {(reader: Reader) => T} read @returns {T[]} */
  list(read) {
    return Array.from({ length: this.number() }, () => read(this));
  }

  name() {
    return String.fromCharCode(...this.list((reader) => reader.byte()));
  }
}

const letters = new Map([
  [0x7f, 'i'],
  [0x7d, 'f'],
]);

/** Parameters of each exported function as a word of i (32-bit integer) and f (f32), and whether it returns. @param {Uint8Array} wasm */
function signaturesOf(wasm) {
  const sections = sectionsOf(wasm);
  const types = sections.get(1).list((reader) => {
    reader.byte();
    const read = () => letters.get(reader.byte());
    return { params: reader.list(read), returns: reader.list(read).length > 0 };
  });
  const functions = sections.get(3).list((reader) => types[reader.number()]);
  const exported = sections.get(7).list((reader) => ({ name: reader.name(), kind: reader.byte(), index: reader.number() }));
  return exported
    .filter(({ kind }) => kind === 0)
    .map(({ name, index }) => ({ name, ...functions[index] }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The module that calls a kernel by its number, with arguments from memory. @param {ReturnType<typeof signaturesOf>} signatures */
function dispatchSource(signatures) {
  const cases = signatures.map(({ name, params, returns }, code) => {
    const args = params.map((type, i) => `load<${type === 'f' ? 'f32' : 'i32'}>(args, ${4 * i})`).join(', ');
    return `    case ${code}: ${returns ? `return ${name}(${args});` : `${name}(${args}); return -1;`}`;
  });
  return `import { ${signatures.map(({ name }) => name).join(', ')} } from './index';
export function call(code: i32, args: usize): i32 {
  switch (code) {
${cases.join('\n')}
    default: unreachable();
  }
  return -1;
}
`;
}

const signatures = signaturesOf(await compile(['kernels/index.ts'], []));
const unknown = signatures.find(({ params }) => params.includes(undefined));
if (unknown !== undefined) throw new Error(`${unknown.name}: kernels take 32-bit integers and f32 only`);
const build = (features) => compile(['kernels/index.ts', 'kernels/jobs.ts'], features, dispatchSource(signatures));
const builds = { plain: await build([]), relaxed: await build(['relaxed-simd']) };

for (const bytes of Object.values(builds)) {
  // A data segment would be written into memory that belongs to the caller's tensors.
  if (sectionsOf(bytes).has(11)) throw new Error('the kernels must not have data segments: keep tables out of them');
}

const literal = (bytes) => (bytes.toString('base64').match(/.{1,200}/g) ?? []).map((line) => `  '${line}'`).join(' +\n');
const source = `// Built from packages/tensor/kernels by packages/tensor/scripts/build-kernels.mjs: do not edit.
/** Parameters of each kernel, i a 32-bit integer and f an f32; the order is that of the numbers by which kernels are called from memory. */
export const kernelSignatures = {
${signatures.map(({ name, params }) => `  ${name}: '${params.join('')}',`).join('\n')}
} as const;
// ${builds.plain.length} bytes of WebAssembly with SIMD.
export const plainKernels =
${literal(builds.plain)};
// ${builds.relaxed.length} bytes of WebAssembly with relaxed SIMD.
export const relaxedKernels =
${literal(builds.relaxed)};
`;
const sizes = `${builds.plain.length} and ${builds.relaxed.length} bytes`;
if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== source) {
    console.error('src/cpu/kernels.generated.ts does not match kernels/: run "node packages/tensor/scripts/build-kernels.mjs"');
    process.exit(1);
  }
  console.log(`kernels: ${sizes}, as committed`);
} else {
  writeFileSync(target, source);
  console.log(`kernels: ${sizes} written`);
}
