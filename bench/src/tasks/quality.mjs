// What rounded weights cost: answers of the reckoner to its held-out problems at every depth, beside those of its f32 weights.
import { bytesSource, openSafetensors } from '../../../packages/checkpoint/dist/index.js';
import { uncachedPass } from '../../../packages/nn/dist/index.js';
import { loadEmbedded } from '../../../packages/pretrained/dist/index.js';
import { paramsFromNames, parseRecurrentConfig, RecurrentModel } from '../../../packages/recurrent/dist/index.js';
import { argmax } from '../../../packages/tensor/dist/index.js';
import { parseTokenizer } from '../../../packages/tokenizer/dist/index.js';
import { roundSymmetric, roundWithZeroPoints } from '../models/rounded-weights.mjs';

const DEPTHS = 64;
const SHOWN = [1, 2, 4, 8, 16, 32, 64];
const BATCH = 64;
/** Kinds of weights: how a matrix becomes a tensor. */
const kinds = {
  f32: (device, values, shape) => device.tensor(values, shape, { memory: 'weights' }),
  q8: (device, values, shape) => device.tensor(values, shape, { memory: 'weights', dtype: 'q8' }),
  q4: (device, values, shape) => device.tensor(values, shape, { memory: 'weights', dtype: 'q4' }),
  'q4, f32 activations': async (device, values, shape) =>
    device.tensor(await roundSymmetric(device, values, shape), shape, { memory: 'weights' }),
  'q4 with zero points, f32 activations': (device, values, shape) =>
    device.tensor(roundWithZeroPoints(values, shape), shape, { memory: 'weights' }),
};

async function openModel(device, { config, weights }, kind) {
  const file = await openSafetensors(bytesSource(weights));
  const tensors = new Map();
  for (const [name, { shape }] of file.entries) {
    const bytes = await file.read(name);
    const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    const matrix = shape.length === 2 && name.endsWith('weight');
    tensors.set(name, await (matrix ? kinds[kind] : kinds.f32)(device, values, shape));
  }
  return new RecurrentModel(device, parseRecurrentConfig(config), paramsFromNames(tensors));
}

/** Problems with their right answers in tokens, the stop token behind each, by length: no row is padded. */
function batches({ tokenizer, tokenizerConfig, generationConfig, problems }) {
  const codec = parseTokenizer({ tokenizer, config: tokenizerConfig });
  const byLength = new Map();
  for (const { prompt, answer } of problems) {
    const head = codec.encode(prompt);
    const tokens = [...head, ...codec.encode(answer, { addSpecialTokens: false }), generationConfig.eos_token_id];
    const list = byLength.get(tokens.length) ?? [];
    byLength.set(tokens.length, list);
    list.push({ tokens, from: head.length });
  }
  return [...byLength.values()].flatMap((list) =>
    Array.from({ length: Math.ceil(list.length / BATCH) }, (_, i) => list.slice(i * BATCH, (i + 1) * BATCH)),
  );
}

/** The most likely token (problem, position) behind each depth, all problems one after the other. A state depends on no deeper one, so one run serves all depths. */
async function predictions(device, model, batch) {
  const [B, T] = [batch.length, batch[0].tokens.length - 1];
  const pass = uncachedPass(
    device,
    B,
    Int32Array.from({ length: B * T }, (_, i) => i % T),
  );
  const tokens = device.tensor(Int32Array.from(batch.flatMap((one) => one.tokens.slice(0, T))), [B, T], { dtype: 'i32' });
  const e = model.prelude(tokens, pass);
  let state = model.initialState(pass, { scale: 0 });
  const depths = [];
  for (let loop = 0; loop < DEPTHS; loop++) {
    const next = model.step(e, state, loop, pass);
    state.dispose();
    state = next;
    const logits = model.readout(state, pass);
    const best = argmax(logits);
    depths.push(await best.data());
    for (const one of [logits, best]) one.dispose();
  }
  for (const one of [tokens, e, state, pass]) one.dispose();
  return depths;
}

/** For each depth: percent of the problems answered right, and of the answers' tokens on which the first kind and this one agree. */
function judge(all, own, first) {
  return Array.from({ length: DEPTHS }, (_, depth) => {
    const count = { problems: 0, right: 0, tokens: 0, agreed: 0 };
    all.forEach((batch, i) => {
      const T = batch[0].tokens.length - 1;
      batch.forEach(({ tokens, from }, b) => {
        let right = true;
        for (let t = from - 1; t < T; t++) {
          const token = own[i][depth][b * T + t];
          right &&= token === tokens[t + 1];
          count.tokens++;
          if (token === first[i][depth][b * T + t]) count.agreed++;
        }
        count.problems++;
        if (right) count.right++;
      });
    });
    return { right: (100 * count.right) / count.problems, agreed: (100 * count.agreed) / count.tokens };
  });
}

/** Greedy answers are right exactly where every token behind the right ones before it is the most likely, so no answer need be generated. */
export async function run({ device }, { model: name }) {
  const embedded = await loadEmbedded(name);
  const all = batches(embedded);
  const rows = [];
  let reference;
  for (const kind of Object.keys(kinds)) {
    const model = await openModel(device, embedded, kind);
    const own = [];
    for (const batch of all) own.push(await predictions(device, model, batch));
    model.dispose();
    reference ??= { own, judged: judge(all, own, own) };
    const judged = judge(all, own, reference.own);
    for (const depth of SHOWN) rows.push({ what: `right answers at depth ${depth}`, kind, unit: '%', value: judged[depth - 1].right });
    if (kind === 'f32') continue;
    const losses = judged.map(({ right }, i) => reference.judged[i].right - right);
    const agreed = judged.map((one) => one.agreed);
    rows.push(
      { what: `depths 1 to ${DEPTHS}: most points below f32`, kind, unit: 'points', value: Math.max(...losses) },
      { what: `depths 1 to ${DEPTHS}: mean points below f32`, kind, unit: 'points', value: losses.reduce((a, b) => a + b, 0) / DEPTHS },
      { what: `depths 1 to ${DEPTHS}: least top-1 agreement with f32`, kind, unit: '%', value: Math.min(...agreed) },
      { what: `depths 1 to ${DEPTHS}: mean top-1 agreement with f32`, kind, unit: '%', value: agreed.reduce((a, b) => a + b, 0) / DEPTHS },
    );
  }
  return rows;
}
