// As much of protobuf's wire format as writing an ONNX file takes.

const encoder = new TextEncoder();

function varint(value) {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes = [];
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    bytes.push(rest === 0n ? low : low | 128);
  } while (rest !== 0n);
  return Uint8Array.from(bytes);
}

/** A message as a list of byte pieces, so that weights are not copied at every level. */
export class Message {
  pieces = [];
  size = 0;

  #push(piece) {
    this.pieces.push(piece);
    this.size += piece.byteLength;
  }

  integer(field, value) {
    this.#push(varint(field << 3));
    this.#push(varint(value));
    return this;
  }

  float(field, value) {
    this.#push(varint((field << 3) | 5));
    this.#push(new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  bytes(field, bytes) {
    this.#push(varint((field << 3) | 2));
    this.#push(varint(bytes.byteLength));
    this.#push(bytes);
    return this;
  }

  text(field, text) {
    return this.bytes(field, encoder.encode(text));
  }

  message(field, message) {
    this.#push(varint((field << 3) | 2));
    this.#push(varint(message.size));
    for (const piece of message.pieces) this.#push(piece);
    return this;
  }
}

export function joined(message) {
  const out = new Uint8Array(message.size);
  let at = 0;
  for (const piece of message.pieces) {
    out.set(piece, at);
    at += piece.byteLength;
  }
  return out;
}
