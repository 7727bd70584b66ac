export { constant, type NormalInit, truncatedNormal } from './init.js';
export { type CacheRoom, KVCache, type KVCacheOptions, type KVCacheUsage, type SavedKVCache } from './kv-cache.js';
export { KVJournal } from './kv-journal.js';
export {
  type CacheUse,
  type Compression,
  checkPolicy,
  defaultPolicy,
  fullPolicy,
  type KVPolicy,
  type LayerCall,
  type LayerCounts,
  type Lookup,
  parseKVPolicy,
  policyRefusal,
  slotOf,
  slotsOf,
} from './kv-policy.js';
export { embedding, gatedMlp, linear, type Weight } from './layers.js';
export {
  type AttendOptions,
  chains,
  type KeyView,
  type Loops,
  leftPaddedPositions,
  Pass,
  packedPass,
  packedPositions,
  type RecordedOwner,
  type RecordedPart,
  type RecordedRuns,
  uncachedPass,
} from './pass.js';
