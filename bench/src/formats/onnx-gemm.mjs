import { Graph } from './onnx.mjs';
import { linearNode } from './onnx-linear.mjs';
import { joined } from './protobuf.mjs';

/** c (M, N) of a (M, K) and b: a second input (K, N), or a constant weight given as (N, K). */
export function gemmModel({ M, K, N, kind, constantB }, b) {
  const graph = new Graph();
  const a = graph.input('a', 'float32', [M, K]);
  const c =
    constantB || kind !== 'f32'
      ? linearNode(graph, 'b', a, b, [N, K], kind)
      : graph.node('MatMul', [a, graph.input('b', 'float32', [K, N])]);
  graph.node('Identity', [c], {}, { outputs: ['c'] });
  graph.output('c', 'float32', [M, N]);
  return joined(graph.model());
}
