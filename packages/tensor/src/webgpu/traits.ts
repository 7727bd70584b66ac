/** What an operation may know about the device that its shaders run on. */
export interface GpuTraits {
  /** The adapter computes on the CPU: workgroup barriers are slow there, wide serial threads are fast. */
  readonly software: boolean;
  /** Subgroup kernels may be used: the adapter has them and they passed the self-test. */
  readonly subgroups: boolean;
  /** Shaders may have f16 values. */
  readonly f16: boolean;
  /** Shaders have dot products of four int8 in a word. */
  readonly packedDot: boolean;
  /** Most bytes that one binding may cover. */
  readonly maxBindingBytes: number;
  /** Binding offsets must be multiples of this, in bytes. */
  readonly offsetAlignment: number;
  readonly maxWorkgroups: number;
  /** Most arrays that a kernel may bind. */
  readonly storageBuffers: number;
}

/** Rows of output that a thread of the serial matmul computes, and above which a real GPU changes from matvec to matmul kernels. */
export const rowsPerThread = 8;
