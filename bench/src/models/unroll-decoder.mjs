// A Llama-like decoder in our layers, through the public API: a recurrent model of depth 1 with an empty prelude and coda.
import { openSafetensors } from '../../../packages/checkpoint/dist/index.js';
import { fileSource } from '../../../packages/checkpoint/dist/node.js';
import { linear } from '../../../packages/nn/dist/index.js';
import { paramsFromNames, RecurrentModel, unchanged } from '../../../packages/recurrent/dist/index.js';
import { generate } from '../../../packages/sampler/dist/index.js';
import { add, attention, gatedMatmul, normMatmul, reshape, rmsNorm, rope, split } from '../../../packages/tensor/dist/index.js';
import { CONTEXT, decoders, EPS, ROPE_BASE } from './shapes.mjs';
import { neighbouringPairs, weightFile } from './weights.mjs';

/** A pre-norm block; while decoding, `pass.attend` stores the keys and attends in one operation. */
function llamaBlock(model, params, x, call, pass) {
  const { heads: H, kvHeads: Hk, width: C, normEps: eps } = model.config;
  const D = C / H;
  const [B, T] = [pass.batch, pass.length];
  let mixed;
  if (pass.attend !== undefined) {
    const qkv = normMatmul(x, params.norm_1.weight, params.attn.Wqkv.weight, { eps });
    mixed = pass.attend(call, qkv, { heads: H, table: model.rope });
  } else {
    const [qk, v] = split(linear(params.attn.Wqkv, rmsNorm(x, params.norm_1.weight, { eps })), -1, [(H + Hk) * D, Hk * D]);
    const turned = rope(reshape(qk, [B, T, H + Hk, D]), model.rope, pass.positionTensor, { layout: 'interleaved' });
    const [q, k] = split(turned, 2, [H, Hk]);
    const keys = pass.keys(call, k, reshape(v, [B, T, Hk, D]));
    mixed = attention(q, keys.k, keys.v, keys.keyRows, keys.visible);
  }
  const y = add(x, linear(params.attn.proj, reshape(mixed, [B, T, H * D])));
  const h = rmsNorm(y, params.norm_2.weight, { eps });
  return add(y, linear(params.mlp.proj, gatedMatmul(h, params.mlp.fc.weight)));
}

/** Bytes of a matrix that are read and rounded at once, as @unroll/recurrent does when it loads a checkpoint. */
const PIECE = 1 << 23;

/** A matrix in a weight format, never whole in another. */
async function loadRounded(device, file, name, shape, dtype) {
  const tensor = device.zeros(shape, { dtype, memory: 'weights' });
  const [N, K] = shape;
  const step = Math.max(8, Math.floor(PIECE / (32 * K)) * 8);
  const buffer = new Uint8Array(Math.min(step, N) * K * 4);
  for (let row = 0; row < N; row += step) {
    const piece = await file.readSlice(name, row * K * 4, Math.min(N, row + step) * K * 4, buffer);
    device.writeRows(tensor, piece, 'f32', row);
  }
  return tensor;
}

/** Loads tensor by tensor; matrices in the format asked for. */
async function loadParams(device, model, kind) {
  const file = await openSafetensors(fileSource(await weightFile(model)));
  const tensors = new Map();
  const { H, Hk, D } = decoders[model];
  for (const [name, { shape }] of file.entries) {
    const rounded = kind !== 'f32' && shape.length === 2;
    if (rounded && !name.endsWith('Wqkv.weight')) {
      tensors.set(name, await loadRounded(device, file, name, shape, kind));
      continue;
    }
    const bytes = await file.read(name);
    if (name.endsWith('Wqkv.weight'))
      neighbouringPairs(new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), (H + Hk) * D, D, shape[1]);
    tensors.set(name, device.fromBytes(bytes, 'f32', shape, { memory: 'weights', ...(rounded ? { as: kind } : {}) }));
  }
  await file.close?.();
  return paramsFromNames(tensors);
}

export async function openUnrollDecoder(device, { model: name, kind }) {
  const { C, L, H, Hk, I, V, tied } = decoders[name];
  const config = {
    vocabularySize: V,
    contextLength: CONTEXT,
    width: C,
    heads: H,
    kvHeads: Hk,
    mlpWidth: I,
    preludeLayers: 0,
    coreLayers: L,
    codaLayers: 0,
    meanRecurrence: 1,
    meanBackpropDepth: 1,
    normEps: EPS,
    ropeBase: ROPE_BASE,
    tiedHead: tied,
    qkBias: false,
    embeddingScale: 1,
  };
  const params = await loadParams(device, name, kind);
  const model = new RecurrentModel(device, config, params, {
    // A step looks at the embedding alone, not at the state that it begins from; the norm comes once, before the head.
    inject: (_, __, e) => e,
    enterCoda: unchanged,
    block: llamaBlock,
    // The block reads no loop and no position of the host.
    recordable: true,
  });
  return {
    async run(prompt, count) {
      const tokens = [];
      const started = performance.now();
      let first = 0;
      for await (const { token } of generate({ model, prompt, recurrences: 1, initScale: 0, maxNewTokens: count, stopTokens: [] })) {
        if (tokens.length === 0) first = performance.now();
        tokens.push(token);
      }
      return { tokens, prefillMs: first - started, decodeMs: performance.now() - first };
    },
    close: () => model.dispose(),
  };
}
