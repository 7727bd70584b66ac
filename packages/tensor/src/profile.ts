/** Time spent in one kernel. */
export interface KernelTime {
  readonly kernel: string;
  /** Calls, on WebGPU dispatches. */
  readonly dispatches: number;
  /** Of all these together: on WebGPU by timestamps of the GPU, whose resolution is the adapter's; on the CPU by the clock of the calling thread. */
  readonly microseconds: number;
}
