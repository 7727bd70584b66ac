export { fileSource, folderFiles } from './node/files.js';
export { type DownloadOptions, type DownloadProgress, downloadFromHub, hubCacheFolder } from './node/hub-download.js';
export { fileSink, folderSinks, removeTemporaries } from './node/sinks.js';
