import { type Device, decodeAttention, type Program, reshape, scatterRows, slice, type Tensor } from '@unroll/tensor';
import type { CallTable } from './kv-calls.js';
import type { LayerCall, LayerCounts } from './kv-policy.js';
import { type KeyView, Pass } from './pass.js';

/** A part of a model, recorded, with the tensors that it reads. */
export interface Recording {
  readonly inputs: readonly Tensor[];
  readonly program: Program<Tensor>;
}

export function forgetRecordings(recordings: Map<string, Recording>): void {
  for (const { inputs, program } of recordings.values()) {
    program.dispose();
    for (const input of inputs) input.dispose();
  }
  recordings.clear();
}

/** Keys and values of a cache, (R, Hk, D) each. */
export interface KeyPool {
  readonly k: Tensor<'f32'>;
  readonly v: Tensor<'f32'>;
}

interface Sizes {
  readonly B: number;
  readonly T: number;
  /** S of the tables. */
  readonly positions: number;
  readonly layers: LayerCounts;
}

/** What the programs of passes over T tokens of B sequences read, and the programs. An owner. */
export class Shape {
  readonly B: number;
  readonly T: number;
  /** Its sequences are all of the tables, in their order, so that programs may read the tables where they lie. */
  readonly direct: boolean;
  readonly recordings = new Map<string, Recording>();
  /** Rows of prelude and coda, (calls, B, S), and of the core in one loop. */
  readonly fixedRows: Tensor<'i32'>;
  readonly loopRows: Tensor<'i32'>;
  /** The core's rows to write in the loop that runs, (layers, B, T). */
  readonly loopOwn: Tensor<'i32'>;
  /** (B, T) */
  readonly #positions: Tensor<'i32'>;
  readonly #visible: Tensor<'i32'>;
  /** Rows that the tokens write, (calls, B, T). */
  readonly #own: Record<'fixed' | 'loops', { tensor: Tensor<'i32'>; host: Int32Array; changed: boolean }>;
  readonly #layers: LayerCounts;
  #told = new Int32Array(0);

  constructor(
    private readonly device: Device,
    { B, T, positions: S, layers }: Sizes,
    fixed: CallTable | undefined,
  ) {
    this.B = B;
    this.T = T;
    this.direct = fixed !== undefined;
    this.#layers = layers;
    const calls = layers.prelude + layers.coda;
    const made: Tensor[] = [];
    const ints = (...shape: number[]) => {
      const tensor = this.#ints(...shape);
      made.push(tensor);
      return tensor;
    };
    try {
      this.fixedRows = fixed?.rows ?? ints(calls, B, S);
      this.loopRows = ints(layers.core, B, S);
      this.loopOwn = ints(layers.core, B, T);
      this.#positions = ints(B, T);
      this.#visible = ints(B, T);
      const own = (calls: number) => ({ tensor: ints(calls, B, T), host: new Int32Array(calls * B * T), changed: true });
      this.#own = { fixed: own(calls), loops: own(layers.core) };
    } catch (error) {
      for (const tensor of made) tensor.dispose();
      throw error;
    }
  }

  get bytes(): number {
    const inputs = [...this.recordings.values()].flatMap(({ inputs }) => inputs);
    return [...this.#tensors(), ...inputs].reduce((sum, { size }) => sum + 4 * size, 0);
  }

  /** The core's rows to write in all loops of a run, (calls, B, T). */
  get loopsOwn(): Tensor<'i32'> {
    return this.#own.loops.tensor;
  }

  /** Brings the positions (B, T) of a pass to the device. */
  tell(positions: Int32Array): void {
    if (positions.length === this.#told.length && positions.every((position, i) => position === this.#told[i])) return;
    this.#told = positions.slice();
    this.device.write(this.#positions, this.#told);
    this.device.write(
      this.#visible,
      this.#told.map((position) => position + 1),
    );
  }

  /** Notes the rows (B, T) that a call writes. */
  own(kind: 'fixed' | 'loops', call: number, rows: Int32Array): void {
    const one = this.#own[kind];
    const at = call * rows.length;
    if (at + rows.length > one.host.length) {
      // Whole loops, twice as many as are needed now.
      const { core } = this.#layers;
      const host = new Int32Array(2 * Math.ceil((call + 1) / core) * core * rows.length);
      host.set(one.host);
      one.host = host;
      one.changed = true;
    }
    for (let i = 0; i < rows.length; i++) {
      if (one.host[at + i] === rows[i]) continue;
      one.host[at + i] = rows[i]!;
      one.changed = true;
    }
  }

  /** Brings noted rows to the device. */
  flush(kind: 'fixed' | 'loops'): void {
    const one = this.#own[kind];
    if (!one.changed) return;
    if (one.host.length > one.tensor.size) {
      const larger = this.#ints(one.host.length / (this.B * this.T), this.B, this.T);
      one.tensor.dispose();
      one.tensor = larger;
    }
    this.device.write(one.tensor, one.host);
    one.changed = false;
  }

  /** Records a part; a pool is there once a layer call claimed rows. `attends` lends it attention that is one operation. */
  record(
    name: string,
    like: readonly Tensor[],
    pool: KeyPool | undefined,
    attends: boolean,
    f: (pass: Pass, ...inputs: Tensor[]) => Tensor,
  ): Recording {
    const [positions, visible] = [this.#positions, this.#visible];
    const pass = new Pass(this.device, this.B, this.#told, (call, k, v) => this.#store(pool!, call, k, v), {
      positions,
      visible,
      attend: attends
        ? (call, qkv, options) => {
            const [{ rows }, number] = this.#place(call);
            return decodeAttention(qkv, { ...pool!, keyRows: rows, visible }, { ...options, call: number });
          }
        : undefined,
    });
    const inputs: Tensor[] = [];
    try {
      for (const { shape, dtype } of like) inputs.push(this.device.zeros(shape, { dtype, memory: 'kv' }));
      const recording = {
        inputs,
        program: this.device.record(() => f(pass, ...inputs), { moves: pool === undefined ? [] : [pool.k, pool.v] }),
      };
      this.recordings.set(name, recording);
      return recording;
    } catch (error) {
      for (const input of inputs) input.dispose();
      throw error;
    }
  }

  dispose(): void {
    forgetRecordings(this.recordings);
    for (const tensor of this.#tensors()) tensor.dispose();
  }

  /** `attend` in single operations: several tokens, or blocks that ask for their keys. */
  #store(pool: KeyPool, call: LayerCall, k: Tensor, v: Tensor): Omit<KeyView, 'visible'> {
    const [{ rows, own }, number] = this.#place(call);
    const into = reshape(slice(own, 0, number, number + 1), [this.B, this.T]);
    scatterRows(pool.k, into, k);
    scatterRows(pool.v, into, v);
    return { ...pool, keyRows: reshape(slice(rows, 0, number, number + 1), [this.B, rows.shape[2]!]) };
  }

  /** The tables of a layer call, and its place in them. */
  #place({ part, layer }: LayerCall): readonly [{ readonly rows: Tensor; readonly own: Tensor }, number] {
    if (part === 'core') return [{ rows: this.loopRows, own: this.loopOwn }, layer];
    return [{ rows: this.fixedRows, own: this.#own.fixed.tensor }, part === 'prelude' ? layer : this.#layers.prelude + layer];
  }

  #tensors(): Tensor[] {
    const { fixed, loops } = this.#own;
    const tables = [this.loopRows, this.loopOwn, this.#positions, this.#visible, fixed.tensor, loops.tensor];
    return this.direct ? tables : [this.fixedRows, ...tables];
  }

  #ints(...shape: number[]): Tensor<'i32'> {
    return this.device.zeros(shape, { dtype: 'i32', memory: 'kv' });
  }
}
