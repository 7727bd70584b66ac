/** The tsup preset of every published package: ESM for Node >= 20.19 and current browsers, types, source maps. */
export function library(entry) {
  return {
    entry,
    format: ['esm'],
    target: 'es2022',
    platform: 'neutral',
    dts: true,
    sourcemap: true,
    clean: true,
    treeshake: true,
    splitting: true,
  };
}
