import { type TensorToWrite, type WrittenFile, writeCheckpoint } from '@unroll/checkpoint';
import { fileSink, folderSinks } from '@unroll/checkpoint/node';
import { headDim, parameterShapes, parseRecurrentConfig, type RecurrentConfig } from '@unroll/recurrent';
import { type Device, randomKey, randomRows, ropeTable, threefry2x32 } from '@unroll/tensor';
import type { CpuDevice } from '@unroll/tensor/cpu';
import { byteLevelTokenizer } from './tokenizer.js';

/** config.json of the upload, with the numbers that options change. */
export interface MakeSizes {
  readonly width: number;
  readonly heads: number;
  readonly mlp: number;
  readonly vocabulary: number;
  readonly context: number;
  readonly prelude: number;
  readonly core: number;
  readonly coda: number;
}

/** The sizes of huginn-0125 (arXiv 2502.05171, table 4). */
export const HUGINN: MakeSizes = { width: 5280, heads: 55, mlp: 17920, vocabulary: 65536, context: 4096, prelude: 2, core: 4, coda: 2 };

const MEAN_RECURRENCE = 32;

export function uploadConfig(sizes: MakeSizes): Record<string, unknown> {
  const { width: C, heads: H, mlp, vocabulary: V, context, prelude, core, coda } = sizes;
  const depth = prelude + MEAN_RECURRENCE * core + coda;
  const std = Math.sqrt(2 / (5 * C));
  return {
    activation_checkpoint_impl: 'per-iteration',
    architecture_class_name: 'RecurrentGPT',
    architectures: ['RavenForCausalLM'],
    auto_map: { AutoConfig: 'raven_config_minimal.RavenConfig', AutoModelForCausalLM: 'raven_modeling_minimal.RavenForCausalLM' },
    bias: false,
    block_class_name: 'SandwichBlock',
    block_size: context,
    effective_expected_depth: depth,
    head_dim: C / H,
    init_orthogonal: false,
    init_strategy: 'takase',
    init_values: { embed_scale: Math.sqrt(C), embedding: std, out_proj: std / Math.sqrt(2 * depth), std },
    injection_type: 'linear',
    intermediate_size: mlp,
    mean_backprop_depth: 8,
    mean_recurrence: MEAN_RECURRENCE,
    mlp_class_name: 'GatedMLP',
    model_type: 'huginn_raven',
    n_embd: C,
    n_heads: H,
    n_layers: prelude + core + coda,
    n_layers_in_coda: coda,
    n_layers_in_prelude: prelude,
    n_layers_in_recurrent_block: core,
    nonlin_name: 'SiLU',
    norm_class_name: 'RMSNorm_llama',
    norm_eps: 1e-6,
    num_attention_heads: H,
    num_key_value_heads: H,
    padded_vocab_size: V,
    padding_multiple: 4096,
    qk_bias: true,
    rope_base: 50000,
    sampling_scheme: 'poisson-lognormal-filling',
    state_init: 'like-init',
    test_time_noise: 0,
    test_time_noise_type: 'fixed',
    tie_embeddings: true,
    tie_word_embeddings: true,
    torch_dtype: 'float32',
    transformers_version: '4.47.1',
    vocab_size: V,
  };
}

export interface MakeOptions {
  readonly sizes: MakeSizes;
  readonly seed: number;
  readonly shardBytes: number;
  readonly overwrite?: boolean;
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
}

// Values drawn at once.
const PIECE_VALUES = 1 << 21;

/** The tensors of the upload, f32: parameters as an untrained model starts, the tied head once more, and the rotary table. */
function* tensorsOf(device: CpuDevice, config: RecurrentConfig, seed: number, onBytes: (bytes: number) => void): Generator<TensorToWrite> {
  let index = 0;
  for (const [name, shape] of parameterShapes(config)) {
    const own = index++;
    const bytes = () => valuesOf(device, config, name, shape, seed, own, onBytes);
    yield { name, dtype: 'F32', shape, bytes };
    if (name === 'transformer.wte.weight') yield { name: 'lm_head.weight', dtype: 'F32', shape, bytes };
  }
  const D = headDim(config);
  const table = ropeTable(config.contextLength, D, config.ropeBase);
  onBytes(0);
  yield { name: 'freqs_cis', dtype: 'F32', shape: [1, config.contextLength, 1, D / 2, 2], bytes: new Uint8Array(table.buffer) };
}

/** What `initParams` gives a parameter, piece by piece. */
async function* valuesOf(
  device: CpuDevice,
  config: RecurrentConfig,
  name: string,
  shape: readonly number[],
  seed: number,
  index: number,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const width = shape[shape.length - 1]!;
  const size = shape.reduce((product, n) => product * n, 1);
  if (name.endsWith('qk_bias') || shape.length === 1) {
    yield new Uint8Array(new Float32Array(size).fill(name.endsWith('qk_bias') ? 0 : 1).buffer);
    onBytes(4 * size);
    return;
  }
  const { width: C, preludeLayers, coreLayers, codaLayers, meanRecurrence } = config;
  const output = name.endsWith('.proj.weight');
  const std = Math.sqrt(output ? 1 / (5 * C * (preludeLayers + meanRecurrence * coreLayers + codaLayers)) : 2 / (5 * C));
  const key = threefry2x32(randomKey(seed, 'init'), [index, 0]);
  const rows = size / width;
  const step = Math.max(1, Math.floor(PIECE_VALUES / width));
  for (let row = 0; row < rows; row += step) {
    const values = draw(device, key, row, Math.min(step, rows - row), width, std);
    yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    onBytes(values.byteLength);
  }
}

function draw(device: CpuDevice, key: readonly number[], first: number, rows: number, width: number, std: number): Float32Array {
  const keys = device.tensor(
    new Int32Array(2 * rows).map((_, i) => key[i % 2]!),
    [rows, 2],
  );
  const places = device.tensor(Int32Array.from({ length: rows }, (_, i) => first + i));
  const drawn = randomRows(keys, places, { distribution: 'truncatedNormal', width, std, bound: 3 });
  try {
    return device.readSync(drawn);
  } finally {
    for (const tensor of [keys, places, drawn]) tensor.dispose();
  }
}

/** Writes a checkpoint in the layout of the public upload, with seeded random weights, a piece at a time. */
export async function makeCheckpoint(device: CpuDevice & Device, folder: string, options: MakeOptions): Promise<readonly WrittenFile[]> {
  const json = uploadConfig(options.sizes);
  const config = parseRecurrentConfig(json);
  const values = [...parameterShapes(config).values()].reduce((sum, shape) => sum + shape.reduce((product, n) => product * n, 1), 0);
  const totalBytes = 4 * (values + config.vocabularySize * config.width);
  let doneBytes = 0;
  const onBytes = (bytes: number) => {
    doneBytes += bytes;
    options.onProgress?.({ doneBytes, totalBytes });
  };
  const written = await writeCheckpoint(folderSinks(folder), tensorsOf(device, config, options.seed, onBytes), {
    maxShardBytes: options.shardBytes,
    overwrite: options.overwrite ?? false,
    metadata: { format: 'pt' },
  });
  const texts = { 'config.json': json, ...byteLevelTokenizer(config.vocabularySize) };
  const extra: WrittenFile[] = [];
  for (const [file, content] of Object.entries(texts)) {
    const bytes = new TextEncoder().encode(`${JSON.stringify(content, null, file === 'tokenizer.json' ? 0 : 2)}\n`);
    const sink = await fileSink(`${folder}/${file}`);
    await sink.write(bytes);
    await sink.end();
    await sink.commit();
    extra.push({ file, byteLength: bytes.length });
  }
  return [...written, ...extra];
}
