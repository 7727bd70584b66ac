import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { listPublished, ROOT } from './tooling/scripts/lib/workspace.mjs';

const entryPoints = listPublished().flatMap(({ folder, manifest }) =>
  Object.values(manifest.exports ?? {}).flatMap((conditions) => {
    const source = conditions['@unroll/source'];
    return source !== undefined && existsSync(join(folder, source)) ? [join(folder, source)] : [];
  }),
);

/** @type {Partial<import('typedoc').TypeDocOptions>} */
export default {
  name: 'Unroll',
  entryPoints,
  tsconfig: join(ROOT, 'tsconfig.json'),
  readme: existsSync(join(ROOT, 'README.md')) ? join(ROOT, 'README.md') : 'none',
  // The type check is a step of its own.
  skipErrorChecking: true,
  excludePrivate: true,
  excludeInternal: true,
  disableSources: true,
  outputs: [
    { name: 'html', path: join(ROOT, 'out', 'docs') },
    { name: 'json', path: join(ROOT, 'out', 'api.json') },
  ],
};
