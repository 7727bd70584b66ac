// A linear layer in ONNX, by kind of weights.
import { transposed } from '../numbers.mjs';

const BLOCK = 32;
const microsoft = { domain: 'com.microsoft' };

/** Blocks of 32 along k: codes with the middle of their range as zero, and an f32 scale. w (N, K). */
export function quantizeBlocks(w, N, K, bits) {
  const blocks = K / BLOCK;
  const middle = 1 << (bits - 1);
  const scales = new Float32Array(N * blocks);
  const codes = new Uint8Array((N * K * bits) / 8);
  for (let at = 0; at < N * blocks; at++) {
    const start = at * BLOCK;
    let extreme = 0;
    for (let i = start; i < start + BLOCK; i++) if (Math.abs(w[i]) > Math.abs(extreme)) extreme = w[i];
    // The code furthest from zero is -middle, which has no positive twin.
    const scale = extreme / -middle || 1;
    scales[at] = scale;
    for (let i = 0; i < BLOCK; i++) {
      const code = Math.max(0, Math.min(2 * middle - 1, Math.round(w[start + i] / scale) + middle));
      if (bits === 8) codes[start + i] = code;
      else codes[(start + i) >> 1] |= code << (4 * (i & 1));
    }
  }
  return { codes, scales };
}

/** One scale for all of w (N, K), turned to (K, N): codes -127 to 127. */
function quantizeWhole(w, N, K) {
  let most = 0;
  for (const value of w) most = Math.max(most, Math.abs(value));
  const scale = most / 127;
  const turned = transposed(w, N, K);
  return { codes: Int8Array.from(turned, (value) => Math.round(value / scale)), scale };
}

/** y = x w^T for w (N, K) as part of a graph; the name of y. `wide` is the number of leading axes of x and is free. */
export function linearNode(graph, name, x, w, [N, K], kind) {
  if (kind === 'f32') return graph.node('MatMul', [x, graph.constant(`${name}.t`, transposed(w, N, K), [K, N])]);
  if (kind === 'q8' || kind === 'q4') {
    const bits = kind === 'q8' ? 8 : 4;
    const { codes, scales } = quantizeBlocks(w, N, K, bits);
    const stored = graph.constant(`${name}.${kind}`, codes, [N, K / BLOCK, (BLOCK * bits) / 8]);
    const scale = graph.constant(`${name}.scale`, scales, [(N * K) / BLOCK]);
    // Level 4 lets it quantise activations to int8; without it native q8 is a hundred times slower.
    return graph.node('MatMulNBits', [x, stored, scale], { K, N, bits, block_size: BLOCK, accuracy_level: 4 }, microsoft);
  }
  const { codes, scale } = quantizeWhole(w, N, K);
  const stored = graph.constant(`${name}.int8`, codes, [K, N]);
  const [q, xScale, zero] = graph.node(
    'DynamicQuantizeLinear',
    [x],
    {},
    { outputs: ['q', 'scale', 'zero'].map((part) => `${name}.x.${part}`) },
  );
  const sums = graph.node('MatMulInteger', [q, stored, zero]);
  const factor = graph.node('Mul', [xScale, graph.constant(`${name}.scale`, Float32Array.of(scale), [])]);
  return graph.node('Mul', [graph.node('Cast', [sums], { to: 1 }), factor]);
}
