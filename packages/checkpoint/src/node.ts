export { fileSource, folderFiles } from './node/files.js';
export { fileSink, folderSinks } from './node/sinks.js';
