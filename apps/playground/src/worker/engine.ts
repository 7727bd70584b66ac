import { blobFiles, type FileSet } from '@unroll/checkpoint';
import { familyOf, loadRecurrentModel, type RecurrentModel } from '@unroll/recurrent';
import { DeviceLostError, type Tensor } from '@unroll/tensor';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import type { Tokenizer } from '@unroll/tokenizer';
import { defaultEmbedded, embeddedFiles } from '../models/embedded.js';
import { type OpenedFiles, openFiles } from '../models/source.js';
import { storedFiles } from '../models/store.js';
import { giveBack, type Placed, placeModel } from './device.js';
import { Turns } from './host.js';
import type { DeviceWish, Example, LoadItem, MemoryInfo, ModelInfo, ModelSource, Opened } from './protocol.js';

/** A model on its device. */
export interface Loaded extends Placed {
  readonly opened: OpenedFiles;
  readonly info: ModelInfo;
  readonly source: ModelSource;
  readonly wish: DeviceWish;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

/** What the worker holds: one device and one model, and turns for the work on them. */
export class EngineState {
  readonly turns = new Turns();
  /** Called before the model goes: those who hold tensors of it let them go. */
  readonly onUnload: (() => void)[] = [];
  /** The files of the model that was trained here last. */
  trained: { readonly files: readonly { readonly name: string; readonly blob: Blob }[]; readonly examples: readonly Example[] } | undefined;
  #loaded: Loaded | undefined;

  /** Throws Error before a model is open. */
  get loaded(): Loaded {
    if (this.#loaded === undefined) throw new Error('no model is loaded; open one in Models');
    return this.#loaded;
  }

  get tokenizer(): Tokenizer {
    const { tokenizer, name } = this.loaded.opened;
    if (tokenizer === undefined) throw new Error(`${name} has no tokenizer.json, so text cannot be read or written`);
    return tokenizer;
  }

  async open(wish: DeviceWish, source: ModelSource, item: (item: LoadItem) => void, signal?: AbortSignal): Promise<Opened> {
    const opened = await this.#openSource(source);
    const { configJson: config, checkpoint: weights, name } = opened;
    let placed: Placed;
    try {
      placed = await placeModel(wish, weights.totalBytes, async (device) => {
        const onProgress = ({ loaded, total }: { readonly loaded: number; readonly total: number }) =>
          item({ what: `loading ${name}`, loaded, total });
        const model = await loadRecurrentModel({ device, config, weights, onProgress });
        if (signal?.aborted === true) model.dispose();
        signal?.throwIfAborted();
        return model;
      });
    } catch (error) {
      await opened.checkpoint.close();
      throw error;
    }
    this.unload();
    this.#loaded = { ...placed, opened, source, wish, info: describeModel(opened, source, weights.totalBytes) };
    return { device: placed.chosen.info, model: this.#loaded.info };
  }

  unload(): void {
    for (const f of this.onUnload) f();
    if (this.#loaded === undefined) return;
    const loaded = this.#loaded;
    this.#loaded = undefined;
    try {
      giveBack(loaded);
    } finally {
      void loaded.opened.checkpoint.close();
    }
  }

  /** The same model on a new device of the same kind, after a loss. */
  async recover(): Promise<RecurrentModel> {
    const { wish, chosen, source } = this.loaded;
    const kept: DeviceWish = wish === 'auto' ? chosen.info.kind : wish;
    await this.open(kept, source, () => {});
    return this.loaded.model;
  }

  /** Runs `f`; when the device is lost in it, makes the model again and runs it once more. `f` must begin anew each time. */
  async withRecovery<R>(f: () => Promise<R>): Promise<R> {
    try {
      return await f();
    } catch (error) {
      if (!(error instanceof DeviceLostError)) throw error;
      await this.recover();
      return f();
    }
  }

  memory(): MemoryInfo {
    const { bytes, peak, reserved } = this.loaded.chosen.device.memory();
    return { ...bytes, peak, reserved };
  }

  /** Takes the GPU device away, as a driver reset would. */
  loseDevice(): void {
    const { device } = this.loaded.chosen;
    if (device.kind !== 'webgpu') throw new Error('the CPU device cannot be lost; choose WebGPU first');
    ((device as WebGPUDevice).gpuDevice as { destroy(): void }).destroy();
  }

  async #openSource(source: ModelSource): Promise<OpenedFiles> {
    if (source.kind === 'embedded') {
      const { files, examples, card } = await embeddedFiles(source.name === '' ? defaultEmbedded() : source.name);
      return openFiles(files, examples, card);
    }
    if (source.kind === 'stored') return openFiles(await storedFiles(source.id));
    if (source.kind === 'trained') {
      if (this.trained === undefined) throw new Error('nothing has been trained in this tab yet');
      return openFiles(blobsOf('trained here', this.trained.files), this.trained.examples);
    }
    const card = source.files.find(({ name }) => name === 'README.md');
    return openFiles(blobsOf(source.name, source.files), [], card === undefined ? '' : await card.blob.text());
  }
}

const blobsOf = (name: string, files: readonly { readonly name: string; readonly blob: Blob }[]): FileSet =>
  blobFiles(Object.fromEntries(files.map(({ name: file, blob }) => [file, blob])), name);

/** What the page knows of a model. */
export function describeModel(opened: OpenedFiles, source: ModelSource, weightBytes: number): ModelInfo {
  const { config, checkpoint, tokenizer } = opened;
  let parameters = 0;
  let coreParameters = 0;
  for (const { name, shape } of checkpoint.entries.values()) {
    if (/(^|\.)(freqs_cis|lm_head\.weight)$/.test(name) && config.tiedHead) continue;
    const size = sizeOf(shape);
    parameters += size;
    if (/core_block|adapter|^model\.layers\./.test(name)) coreParameters += size;
  }
  return {
    name: opened.name,
    source: source.kind,
    parameters,
    coreParameters,
    weightBytes,
    width: config.width,
    heads: config.heads,
    layers: { prelude: config.preludeLayers, core: config.coreLayers, coda: config.codaLayers },
    contextLength: config.contextLength,
    vocabularySize: config.vocabularySize,
    meanRecurrence: config.meanRecurrence,
    maxNewTokens: opened.maxNewTokens,
    hasTokenizer: tokenizer !== undefined,
    hasExitGate: familyOf(checkpoint.entries.keys()).hasExitGate,
    hasTemplate: (tokenizer?.chatTemplates.size ?? 0) > 0,
    examples: opened.examples,
    about: opened.about,
    kvBytesPerCall: 2 * 4 * config.kvHeads * (config.width / config.heads),
  };
}

/** Values of a tensor, which is disposed. */
export async function takeValues(tensor: Tensor): Promise<Float32Array> {
  try {
    return (await tensor.data()) as Float32Array;
  } finally {
    tensor.dispose();
  }
}
