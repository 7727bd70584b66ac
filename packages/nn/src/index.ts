export { constant, type NormalInit, truncatedNormal } from './init.js';
export { KVCache, type KVCacheOptions, type KVCacheUsage } from './kv-cache.js';
export { type Compression, checkPolicy, fullPolicy, type KVPolicy, type LayerCall, type LayerCounts, type Lookup, parseKVPolicy, slotOf } from './kv-policy.js';
export { embedding, gatedMlp, linear, type Weight } from './layers.js';
export { type KeyView, leftPaddedPositions, Pass, uncachedPass } from './pass.js';
