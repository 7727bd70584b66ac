// A Llama-like decoder as an ONNX graph with the fused operators that ONNX Runtime's own model builder emits.
import { Graph } from '../formats/onnx.mjs';
import { linearNode } from '../formats/onnx-linear.mjs';
import { argmax, CONTEXT, decoders, EPS, ropeTables } from './shapes.mjs';
import { blockWeights, cached, openWeights, readBytes, writePieces } from './weights.mjs';

const microsoft = { domain: 'com.microsoft' };

async function buildModel(model, kind) {
  const shape = decoders[model];
  const { C, L, H, Hk, D, V, tied } = shape;
  const read = await openWeights(model);
  const graph = new Graph();
  const ids = graph.input('input_ids', 'int64', [1, 'T']);
  const last = graph.input('seqlens_k', 'int32', [1]);
  const total = graph.input('total_sequence_length', 'int32', [1]);
  const { cos, sin } = ropeTables(D);
  const tables = [graph.constant('cos', cos, [CONTEXT, D / 2]), graph.constant('sin', sin, [CONTEXT, D / 2])];
  const wte = read('transformer.wte.weight');
  const norm = (name, values) => graph.constant(name, values, [C]);
  const skipNorm = (name, x, skip, weight) => {
    const outputs = [`${name}.out`, '', '', `${name}.sum`];
    const [out, , , sum] = graph.node(
      'SkipSimplifiedLayerNormalization',
      [x, skip, weight],
      { epsilon: { float: EPS } },
      { outputs, ...microsoft },
    );
    return [out, sum];
  };
  let residual = graph.node('Gather', [graph.constant('wte', wte, [V, C]), ids]);
  let x;
  for (let n = 0; n < L; n++) {
    const w = blockWeights(read, shape, n);
    const layer = (name, from) => linearNode(graph, `l${n}.${name}`, from, w[name][0], w[name][1], kind);
    const first = norm(`l${n}.norm1`, w.norm1);
    if (x === undefined) {
      x = graph.node('SimplifiedLayerNormalization', [residual, first], { epsilon: { float: EPS }, axis: -1, stash_type: 1 });
    } else [x, residual] = skipNorm(`l${n}.first`, residual, x, first);
    const past = ['key', 'value'].map((part) => graph.input(`past.${n}.${part}`, 'float32', [1, Hk, 'P', D]));
    const outputs = [`l${n}.attention`, `present.${n}.key`, `present.${n}.value`];
    for (const name of outputs.slice(1)) graph.output(name, 'float32', [1, Hk, 'S', D]);
    const [mixed] = graph.node(
      'GroupQueryAttention',
      [layer('qkv', x), '', '', ...past, last, total, ...tables],
      { num_heads: H, kv_num_heads: Hk, do_rotary: 1, rotary_interleaved: 0 },
      { outputs, ...microsoft },
    );
    [x, residual] = skipNorm(`l${n}.second`, residual, layer('o', mixed), norm(`l${n}.norm2`, w.norm2));
    const gate = layer('gate', x);
    const gated = graph.node('Mul', [gate, graph.node('Sigmoid', [gate])]);
    x = layer('down', graph.node('Mul', [gated, layer('up', x)]));
  }
  [x] = skipNorm('final', residual, x, norm('ln_f', read('transformer.ln_f.weight')));
  const final = graph.node('Gather', [x, graph.constant('last', BigInt64Array.of(-1n), [1])], { axis: 1 });
  const logits = linearNode(graph, 'head', final, tied ? wte : read('lm_head.weight'), [V, C], kind);
  graph.node('Identity', [logits], {}, { outputs: ['logits'] });
  graph.output('logits', 'float32', [1, 1, V]);
  return graph.model();
}

export const onnxFile = (model, kind) =>
  cached(`decoder-${model}-${kind}.onnx`, async (path) => writePieces(path, (await buildModel(model, kind)).pieces));

export async function openOnnxDecoder(ort, createSession, { model, kind, fromBytes }) {
  const { L, Hk, D } = decoders[model];
  const path = await onnxFile(model, kind);
  const session = await createSession(fromBytes ? readBytes(path) : path);
  const integers = (values) => new ort.Tensor('int32', Int32Array.from(values), [values.length]);
  const layers = Array.from({ length: L }, (_, n) => n);
  return {
    async run(prompt, count) {
      const empty = () => new ort.Tensor('float32', new Float32Array(0), [1, Hk, 0, D]);
      let past = Object.fromEntries(layers.flatMap((n) => ['key', 'value'].map((part) => [`past.${n}.${part}`, empty()])));
      let length = 0;
      const step = async (ids) => {
        length += ids.length;
        const out = await session.run({
          input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
          seqlens_k: integers([length - 1]),
          total_sequence_length: integers([length]),
          ...past,
        });
        past = Object.fromEntries(
          layers.flatMap((n) => ['key', 'value'].map((part) => [`past.${n}.${part}`, out[`present.${n}.${part}`]])),
        );
        return argmax(out.logits.data);
      };
      const started = performance.now();
      const tokens = [await step(prompt)];
      const first = performance.now();
      while (tokens.length < count) tokens.push(await step(tokens.slice(-1)));
      return { tokens, prefillMs: first - started, decodeMs: performance.now() - first };
    },
    close: () => session.release(),
  };
}
