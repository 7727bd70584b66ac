// Writes ONNX models. Field numbers are those of onnx.proto (IR version 10).
import { Message } from './protobuf.mjs';

const TYPES = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7 };
const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

function typeOf(data) {
  if (data instanceof Float32Array) return TYPES.float32;
  if (data instanceof Uint8Array) return TYPES.uint8;
  if (data instanceof Int8Array) return TYPES.int8;
  if (data instanceof Int32Array) return TYPES.int32;
  return TYPES.int64;
}

function attribute(name, value) {
  const message = new Message().text(1, name);
  if (typeof value === 'string') return message.text(4, value).integer(20, 3);
  if (Array.isArray(value)) {
    for (const one of value) message.integer(8, one);
    return message.integer(20, 7);
  }
  // A number in an object is a float, a bare one an integer.
  if (typeof value === 'object') return message.float(2, value.float).integer(20, 1);
  return message.integer(3, value).integer(20, 2);
}

function valueInfo(name, type, dims) {
  const shape = new Message();
  for (const dim of dims) {
    shape.message(1, typeof dim === 'string' ? new Message().text(2, dim) : new Message().integer(1, dim));
  }
  const tensor = new Message().integer(1, TYPES[type]).message(2, shape);
  return new Message().text(1, name).message(2, new Message().message(1, tensor));
}

/** A graph under construction. */
export class Graph {
  #nodes = [];
  #initializers = [];
  #inputs = [];
  #outputs = [];
  #count = 0;

  input(name, type, dims) {
    this.#inputs.push(valueInfo(name, type, dims));
    return name;
  }

  output(name, type, dims) {
    this.#outputs.push(valueInfo(name, type, dims));
  }

  constant(name, data, dims) {
    const tensor = new Message();
    for (const dim of dims) tensor.integer(1, dim);
    this.#initializers.push(tensor.integer(2, typeOf(data)).text(8, name).bytes(9, bytesOf(data)));
    return name;
  }

  /** Adds a node; gives the names of its outputs: those given, or one of its own. */
  node(op, inputs, attributes = {}, { outputs, domain = '' } = {}) {
    const names = outputs ?? [`${op}_${this.#count}`];
    this.#count++;
    const message = new Message();
    for (const name of inputs) message.text(1, name);
    for (const name of names) message.text(2, name);
    message.text(3, `node_${this.#count}`).text(4, op);
    for (const [name, value] of Object.entries(attributes)) message.message(5, attribute(name, value));
    this.#nodes.push(message.text(7, domain));
    return names.length === 1 ? names[0] : names;
  }

  /** The model as a message. */
  model() {
    const graph = new Message();
    for (const node of this.#nodes) graph.message(1, node);
    graph.text(2, 'bench');
    for (const tensor of this.#initializers) graph.message(5, tensor);
    for (const info of this.#inputs) graph.message(11, info);
    for (const info of this.#outputs) graph.message(12, info);
    const opset = (domain, version) => new Message().text(1, domain).integer(2, version);
    return new Message()
      .integer(1, 10)
      .text(2, 'unroll-bench')
      .message(7, graph)
      .message(8, opset('', 21))
      .message(8, opset('com.microsoft', 1));
  }
}
