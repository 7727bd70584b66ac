import { UnsupportedError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { librarySource } from './library.js';
import type { GpuTraits } from './traits.js';

export type ParamType = 'u32' | 'i32' | 'f32';
type Params = Readonly<Record<string, ParamType>>;

/** One shader: its name tells it apart from every other, so pipelines are found by it. */
export interface Kernel<P extends Params = Params> {
  readonly name: string;
  readonly params: P;
  /** Bindings 1, 2, ... in order; true: written. */
  readonly writes: readonly boolean[];
  /** Reports bad values: takes a last binding with the device's fault record. */
  readonly faults: boolean;
  /** Threads in a workgroup. */
  readonly workgroup: number;
  /** WGSL. */
  source(): string;
}

export interface KernelSpec<P extends Params> {
  /** Numbers that the host gives at each dispatch, read as p.NAME. */
  readonly params: P;
  /** Read-only arrays by name, with their element types. */
  readonly read?: Readonly<Record<string, string>>;
  /** Arrays that the kernel writes. */
  readonly write?: Readonly<Record<string, string>>;
  readonly workgroup?: number;
  readonly enable?: readonly string[];
  /** Features of the language that the body uses. */
  readonly requires?: readonly string[];
  /** Functions of the library. */
  readonly uses?: readonly string[];
  readonly faults?: boolean;
  /** Module-level declarations. */
  readonly outside?: string;
  /** Further builtin arguments of the entry point. */
  readonly builtins?: string;
  /** The entry point's body; `group` (number of the workgroup), `lane` (thread in it) and `index` (thread in all) are at hand. */
  readonly body: string;
}

const faultSource = `fn report(value: i32, place: u32) {
  loop {
    let seen = atomicCompareExchangeWeak(&fault[0], 0u, p.site);
    if (seen.exchanged) {
      atomicStore(&fault[1], bitcast<u32>(value));
      atomicStore(&fault[2], place);
    }
    if (seen.exchanged || seen.old_value != 0u) { break; }
  }
}
`;

function sourceOf<P extends Params>(spec: KernelSpec<P>): string {
  const {
    params,
    read = {},
    write = {},
    workgroup = 64,
    enable = [],
    requires = [],
    uses = [],
    faults = false,
    outside = '',
    builtins = '',
    body,
  } = spec;
  const fields = Object.entries({ ...params, ...(faults ? { site: 'u32' } : {}) });
  const lines = [...enable.map((feature) => `enable ${feature};`), ...requires.map((feature) => `requires ${feature};`)];
  if (fields.length > 0) {
    lines.push(
      `struct Params { ${fields.map(([name, type]) => `${name}: ${type}`).join(', ')} }`,
      '@group(0) @binding(0) var<uniform> p: Params;',
    );
  }
  let binding = 1;
  for (const [name, type] of Object.entries(read))
    lines.push(`@group(0) @binding(${binding++}) var<storage, read> ${name}: array<${type}>;`);
  for (const [name, type] of Object.entries(write))
    lines.push(`@group(0) @binding(${binding++}) var<storage, read_write> ${name}: array<${type}>;`);
  if (faults) lines.push(`@group(0) @binding(${binding}) var<storage, read_write> fault: array<atomic<u32>, 3>;`, faultSource);
  lines.push(librarySource(uses), outside);
  lines.push(`@compute @workgroup_size(${workgroup})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32${builtins}) {
  let group = wg.x + wg.y * groups.x;
  let index = group * ${workgroup}u + lane;
  ${body}
}
`);
  return lines.filter((line) => line !== '').join('\n');
}

const made = new Map<string, Kernel>();

/** The kernel of a name and its template parameters, made at first use. `spec` must depend on nothing else. */
export function kernel<P extends Params>(
  name: string,
  template: readonly (string | number | boolean)[],
  spec: () => KernelSpec<P>,
): Kernel<P> {
  const full = template.length === 0 ? name : `${name}.${template.join('.')}`;
  const known = made.get(full);
  if (known !== undefined) return known as Kernel<P>;
  const { params, read = {}, write = {}, workgroup = 64, faults = false } = spec();
  const writes = [...Object.keys(read).map(() => false), ...Object.keys(write).map(() => true)];
  const fresh: Kernel<P> = { name: full, params, writes, faults, workgroup, source: () => sourceOf(spec()) };
  made.set(full, fresh);
  return fresh;
}

/** Memory that lives as long as one call of an operation. */
export class Scratch {
  constructor(readonly bytes: number) {}
}

export type Whole = Tensor | Scratch;

/** A part of a tensor's memory, in bytes. */
export interface Part {
  readonly tensor: Whole;
  readonly offset: number;
  readonly bytes: number;
}

export type Operand = Whole | Part;

/** A bad value that a kernel found: told to the user at the next read. */
export interface Fault {
  /** Tells apart what `describe` speaks about; the same key always goes with the same sentence. */
  readonly key: string;
  describe(value: number, place: number): string;
}

/** One dispatch. */
export interface GpuDispatch {
  readonly kernel: Kernel;
  readonly bind: readonly Operand[];
  readonly params: Readonly<Record<string, number>>;
  /** Workgroups in x, y and z. */
  readonly groups: readonly [number, number, number];
  readonly fault?: Fault;
}

/** `count` workgroups, folded into y where x alone cannot hold them; kernels leave by themselves when `group` is beyond the work. */
export function fold(count: number, traits: GpuTraits, z = 1): [number, number, number] {
  if (count === 0) return [0, 0, 0];
  const y = Math.ceil(count / traits.maxWorkgroups);
  return [Math.ceil(count / y), y, z];
}

type Call<P extends Params> = {
  readonly bind: readonly Operand[];
  readonly params: { readonly [K in keyof P]: number };
  readonly fault?: Fault;
};

/** A dispatch with a thread for each of `count` values. */
export function perThread<P extends Params>(k: Kernel<P>, count: number, traits: GpuTraits, call: Call<P>): GpuDispatch {
  return { kernel: k, groups: fold(Math.ceil(count / k.workgroup), traits), ...call };
}

/** A dispatch with a workgroup for each of `count` rows. */
export function perGroup<P extends Params>(k: Kernel<P>, count: number, traits: GpuTraits, call: Call<P>, z = 1): GpuDispatch {
  return { kernel: k, groups: fold(count, traits, z), ...call };
}

export interface RowRange {
  readonly start: number;
  readonly rows: number;
  /** The range's part of an operand that has `rowBytes` in each row. */
  part(tensor: Whole, rowBytes: number): Operand;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/**
 * Cuts rows into ranges such that the part of every operand (of `rowBytes` a row each) fits a binding and begins where bindings may begin.
 * One range over whole operands in the usual case. Throws UnsupportedError when the smallest range is too large.
 */
export function rowRanges(who: string, rows: number, rowBytes: readonly number[], traits: GpuTraits): RowRange[] {
  const widest = Math.max(...rowBytes, 1);
  if (rows * widest <= traits.maxBindingBytes) return [{ start: 0, rows, part: (tensor) => tensor }];
  const step = Math.max(...rowBytes.map((bytes) => traits.offsetAlignment / gcd(traits.offsetAlignment, bytes)));
  const per = Math.floor(traits.maxBindingBytes / widest / step) * step;
  if (per === 0) {
    throw new UnsupportedError(
      `${who}: ${step} rows of ${widest} bytes exceed what this adapter binds at once (${traits.maxBindingBytes} bytes); use a smaller model or another adapter`,
    );
  }
  const ranges: RowRange[] = [];
  for (let start = 0; start < rows; start += per) {
    const count = Math.min(per, rows - start);
    ranges.push({ start, rows: count, part: (tensor, bytes) => ({ tensor, offset: start * bytes, bytes: count * bytes }) });
  }
  return ranges;
}
