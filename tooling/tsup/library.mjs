// Public types name Symbol.dispose; a consumer whose `lib` is plain ES2022 gets its declaration through this line.
const TYPES_BANNER = '/// <reference lib="esnext.disposable" />';

/**
 * The tsup preset of every published package: ESM for Node >= 20.19 and current browsers, types, source maps.
 * `UNROLL_BUILD_TYPES=0` leaves the declarations out: `npm start` needs only code, and types are most of the build time.
 *
 * @param {string[] | Record<string, string>} entry source files, relative to the package
 */
export function library(entry) {
  return {
    entry,
    format: /** @type {['esm']} */ (['esm']),
    target: 'es2022',
    platform: /** @type {const} */ ('neutral'),
    dts: process.env.UNROLL_BUILD_TYPES === '0' ? false : { banner: TYPES_BANNER },
    sourcemap: true,
    clean: true,
    treeshake: true,
    splitting: true,
  };
}
