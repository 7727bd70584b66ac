export { fileSource, folderFiles } from './node/files.js';
export { hubCacheFolder } from './node/hub-cache.js';
export { type DownloadOptions, type DownloadProgress, downloadFromHub } from './node/hub-download.js';
export { fileSink, folderSinks, removeTemporaries } from './node/sinks.js';
