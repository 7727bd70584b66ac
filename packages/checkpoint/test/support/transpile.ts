import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import ts from 'typescript';

const SOURCES = join(import.meta.dirname, '../../src');

/** Writes the package's sources as plain modules into `out`, so that a child process can run them without a build. */
export async function transpileSources(out: string): Promise<string> {
  for (const folder of ['.', 'node']) {
    await mkdir(join(out, folder), { recursive: true });
    for (const file of await readdir(join(SOURCES, folder))) {
      if (!file.endsWith('.ts')) continue;
      const source = await readFile(join(SOURCES, folder, file), 'utf8');
      const { outputText } = ts.transpileModule(source, {
        compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
      });
      await writeFile(join(out, folder, file.replace(/\.ts$/, '.js')), outputText);
    }
  }
  await writeFile(join(out, 'package.json'), '{"type":"module"}');
  return out;
}
