export {
  type Checkpoint,
  type CheckpointEntry,
  type OpenCheckpointOptions,
  openCheckpoint,
  WEIGHTS_FILE,
  WEIGHTS_INDEX,
} from './checkpoint.js';
export {
  bf16ToFloat32,
  f16ToFloat32,
  float32ToBf16,
  float32ToF16,
  fromFloat32,
  isIntegerDtype,
  type SafetensorsArray,
  toFloat32,
  toFloat64,
  toInt32,
  toTypedArray,
} from './convert.js';
export { bitsPerElement, isSafetensorsDtype, SAFETENSORS_DTYPES, type SafetensorsDtype, tensorByteLength } from './dtype.js';
export { CheckpointError, type CheckpointErrorCode, type CheckpointErrorDetails, SafetensorsFormatError } from './errors.js';
export { blobFiles, bytesFiles, type FileSet, MAX_TEXT_BYTES } from './file-set.js';
export { DEFAULT_LIMITS, type SafetensorsLimits, type TensorEntry } from './header.js';
export { type HttpOptions, httpFiles, httpSource } from './http.js';
export { HUB_ENDPOINT, type HubOptions, hubFiles, isHubRepo } from './hub.js';
export {
  type Disposable,
  type LoadDevice,
  type LoadDtype,
  type LoadMemory,
  type LoadProgress,
  type LoadTensorsOptions,
  loadTensors,
} from './load.js';
export { type OpenSafetensorsOptions, openSafetensors, type SafetensorsFile, type TensorReader } from './safetensors.js';
export { type ByteSink, bytesSink, bytesSinks, type SinkSet } from './sink.js';
export { type ByteSource, blobSource, bytesSource } from './source.js';
export {
  encodeSafetensors,
  type TensorBytes,
  type TensorSpec,
  type TensorToWrite,
  type WriteSafetensorsOptions,
  type WrittenFile,
  writeSafetensors,
} from './write.js';
export { DEFAULT_SHARD_BYTES, type WriteCheckpointOptions, writeCheckpoint } from './write-sharded.js';
