// Writes GGUF files (version 3) for llama.cpp: f32, f16, q8_0 and q4_0 tensors.
import { fromHalf, toHalf } from '../numbers.mjs';

const ALIGNMENT = 32;
const BLOCK = 32;
const KEY_TYPES = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 };
/** Number of the type, and bytes of 32 values. */
const TENSOR_TYPES = { f32: [0, 128], f16: [1, 64], q4_0: [2, 18], q8_0: [8, 34] };

class Writer {
  pieces = [];
  size = 0;

  put(bytes) {
    this.pieces.push(bytes);
    this.size += bytes.length;
  }

  number(bytes, method, value) {
    const buffer = Buffer.alloc(bytes);
    buffer[method](value);
    this.put(buffer);
  }

  uint32 = (value) => this.number(4, 'writeUInt32LE', value);
  int32 = (value) => this.number(4, 'writeInt32LE', value);
  float32 = (value) => this.number(4, 'writeFloatLE', value);
  uint64 = (value) => this.number(8, 'writeBigUInt64LE', BigInt(value));
  bool = (value) => this.put(Buffer.of(value ? 1 : 0));

  string = (text) => {
    const bytes = Buffer.from(text);
    this.uint64(bytes.length);
    this.put(bytes);
  };

  /** A value with its type in front: { uint32: 3 }, { string: 'x' }, { strings | float32s | int32s: [...] }. */
  typed(value) {
    const [[type, content]] = Object.entries(value);
    if (!Array.isArray(content)) {
      this.uint32(KEY_TYPES[type]);
      this[type](content);
      return;
    }
    const element = type.slice(0, -1);
    this.uint32(KEY_TYPES.array);
    this.uint32(KEY_TYPES[element]);
    this.uint64(content.length);
    for (const one of content) this[element](one);
  }

  align() {
    this.put(Buffer.alloc((ALIGNMENT - (this.size % ALIGNMENT)) % ALIGNMENT));
  }
}

/** Bytes of values in a tensor type, a multiple of 32 of them. */
export function encodeValues(values, type) {
  if (type === 'f32') return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  if (type === 'f16') return Buffer.from(Uint16Array.from(values, toHalf).buffer);
  const [, bytes] = TENSOR_TYPES[type];
  const out = Buffer.alloc((values.length / BLOCK) * bytes);
  for (let block = 0; block < values.length / BLOCK; block++) {
    const at = block * bytes;
    const group = values.subarray(block * BLOCK, (block + 1) * BLOCK);
    let extreme = 0;
    for (const value of group) if (Math.abs(value) > Math.abs(extreme)) extreme = value;
    const scale = toHalf(type === 'q8_0' ? Math.abs(extreme) / 127 : extreme / -8);
    out.writeUInt16LE(scale, at);
    const inverse = 1 / (fromHalf(scale) || 1);
    if (type === 'q8_0')
      for (let i = 0; i < BLOCK; i++) out.writeInt8(Math.max(-127, Math.min(127, Math.round(group[i] * inverse))), at + 2 + i);
    else {
      const code = (i) => Math.max(0, Math.min(15, Math.round(group[i] * inverse) + 8));
      for (let i = 0; i < BLOCK / 2; i++) out[at + 2 + i] = code(i) | (code(i + BLOCK / 2) << 4);
    }
  }
  return out;
}

/**
 * The pieces of a GGUF file.
 *
 * @param {Record<string, object>} keys values as `Writer.typed` takes them
 * @param {{ name: string, shape: number[], type: string, values: () => Float32Array }[]} tensors shape with rows first
 */
export function* ggufPieces(keys, tensors) {
  const head = new Writer();
  head.put(Buffer.from('GGUF'));
  head.uint32(3);
  head.uint64(tensors.length);
  head.uint64(Object.keys(keys).length);
  for (const [name, value] of Object.entries(keys)) {
    head.string(name);
    head.typed(value);
  }
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    head.string(name);
    head.uint32(shape.length);
    for (const dim of [...shape].reverse()) head.uint64(dim);
    const [number, bytes] = TENSOR_TYPES[type];
    head.uint32(number);
    head.uint64(offset);
    const size = (shape.reduce((a, b) => a * b, 1) / BLOCK) * bytes;
    offset += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
  }
  head.align();
  yield* head.pieces;
  for (const { values, type } of tensors) {
    const bytes = encodeValues(values(), type);
    yield bytes;
    yield Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT);
  }
}
