import { GpuError } from '../errors.js';
import type { Failures } from './failures.js';
import { type GpuDevice, type GpuLayout, type GpuPipeline, type GpuShaderModule, shaderStageCompute } from './gpu.js';
import type { Kernel, ParamType } from './kernel.js';

/** A compiled kernel. */
export interface Pipeline {
  readonly id: number;
  readonly kernel: Kernel;
  readonly pipeline: GpuPipeline;
  readonly layout: GpuLayout;
  readonly params: readonly (readonly [string, ParamType])[];
  /** Why it cannot run, once that is known. */
  refused: GpuError | undefined;
}

/** What the compiler said, with the source lines it speaks of. */
export async function compileReport(module: GpuShaderModule, source: string): Promise<string> {
  const lines = source.split('\n');
  const { messages } = await module.getCompilationInfo();
  const errors = messages.filter((message) => message.type === 'error');
  return errors
    .map(({ lineNum, linePos, message }) => `${lineNum}:${linePos} ${message}\n    ${lines[lineNum - 1]?.trim() ?? ''}`)
    .join('\n');
}

/** Compiles kernels at first use and keeps them. */
export class Pipelines {
  readonly #known = new Map<string, Pipeline>();
  readonly #layouts = new Map<string, GpuLayout>();

  constructor(
    readonly device: GpuDevice,
    readonly failures: Failures,
  ) {}

  get size(): number {
    return this.#known.size;
  }

  of(kernel: Kernel, forWhat: () => string): Pipeline {
    const known = this.#known.get(kernel.name);
    if (known !== undefined) {
      if (known.refused !== undefined) throw known.refused;
      return known;
    }
    const source = kernel.source();
    const label = `unroll ${kernel.name}`;
    const what = forWhat();
    let module: GpuShaderModule | undefined;
    const make = () => {
      module = this.device.createShaderModule({ label, code: source });
      const layout = this.#layout(kernel);
      const pipelineLayout = this.device.createPipelineLayout({ label, bindGroupLayouts: [layout] });
      const pipeline = this.device.createComputePipeline({ label, layout: pipelineLayout, compute: { module, entryPoint: 'main' } });
      return { layout, pipeline };
    };
    const { layout, pipeline } = this.failures.scoped('validation', make, async (message) => {
      const report = module === undefined ? '' : await compileReport(module, source);
      made.refused = new GpuError(`${what}: the shader ${kernel.name} was refused.\n${report || message}\nshader:\n${source}`);
      return made.refused;
    });
    const params = Object.entries(kernel.params);
    const made: Pipeline = { id: this.#known.size, kernel, pipeline, layout, params, refused: undefined };
    this.#known.set(kernel.name, made);
    return made;
  }

  #layout(kernel: Kernel): GpuLayout {
    const kinds = [...kernel.writes, ...(kernel.faults ? [true] : [])];
    const label = `unroll ${kinds.map((write) => (write ? 'w' : 'r')).join('')}`;
    const known = this.#layouts.get(label);
    if (known !== undefined) return known;
    const storage = kinds.map((write, i) => ({
      binding: i + 1,
      visibility: shaderStageCompute,
      buffer: { type: write ? 'storage' : 'read-only-storage' },
    }));
    const params = { binding: 0, visibility: shaderStageCompute, buffer: { type: 'uniform', hasDynamicOffset: true } };
    const layout = this.device.createBindGroupLayout({ label, entries: [params, ...storage] });
    this.#layouts.set(label, layout);
    return layout;
  }
}
