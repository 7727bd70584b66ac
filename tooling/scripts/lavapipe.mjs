// Prints the path of lavapipe's driver file, for VK_DRIVER_FILES: Mesa 25 out of Debian's backports, unpacked under node_modules/.cache.
// Bookworm's own Mesa 22 is too old for Dawn. Nothing is installed: the package is fetched from where this machine's apt fetches.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runQuiet } from './lib/process.mjs';
import { ROOT } from './lib/workspace.mjs';

const FOLDER = join(ROOT, 'node_modules/.cache/lavapipe');
const PACKAGE = 'mesa-vulkan-drivers';
const LIBRARIES = 'apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers';

/**
 * The source of a further suite of Debian, beside a source that has the suite `codename` and the component main.
 *
 * @param {string[]} files contents of apt's source files, of either format
 * @param {string} codename such as "bookworm"
 * @param {string} suite such as "bookworm-backports"
 * @returns {string | undefined} one line of apt's short format; undefined where no file has such a source
 */
export function sourceOf(files, codename, suite) {
  for (const stanza of files.flatMap((text) => text.split(/\n\s*\n/))) {
    const plain = stanza.split('\n').filter((line) => !line.startsWith('#'));
    /** @param {string} name */
    const field = (name) =>
      plain
        .find((line) => line.startsWith(`${name}:`))
        ?.slice(name.length + 1)
        .trim();
    const [types, uris, suites, components] = ['Types', 'URIs', 'Suites', 'Components'].map((name) => field(name)?.split(/\s+/));
    if (types?.includes('deb') && uris !== undefined && suites?.includes(codename) && components?.includes('main')) {
      const key = field('Signed-By');
      return `deb ${key?.startsWith('/') ? `[signed-by=${key}] ` : ''}${uris[0]} ${suite} main`;
    }
    for (const line of plain) {
      const [, options = '', uri, found, rest = ''] = /^deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
      if (found === codename && rest.split(/\s+/).includes('main')) return `deb ${options}${uri} ${suite} main`;
    }
  }
  return undefined;
}

function sourceFiles() {
  const folder = '/etc/apt/sources.list.d';
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => /\.(list|sources)$/.test(name)) : [];
  const paths = ['/etc/apt/sources.list', ...names.map((name) => join(folder, name))];
  return paths.filter((path) => existsSync(path)).map((path) => readFileSync(path, 'utf8'));
}

/** @param {string} folder @returns {string | undefined} */
function libraryIn(folder) {
  const lib = join(folder, 'root/usr/lib');
  if (!existsSync(lib)) return undefined;
  return readdirSync(lib)
    .map((triple) => join(lib, triple, 'libvulkan_lvp.so'))
    .find((path) => existsSync(path));
}

/**
 * @param {(line: string) => void} [log]
 * @returns {Promise<string>} path of the driver file, written at the first call
 * @throws {Error} that says what is missing and what to type
 */
export async function ensureLavapipe(log = console.error) {
  const icd = join(FOLDER, 'lvp_icd.json');
  if (existsSync(icd)) return icd;
  if (process.platform !== 'linux' || !existsSync('/usr/bin/apt-get'))
    throw new Error('lavapipe comes out of Debian packages here; elsewhere set VK_DRIVER_FILES to the driver file of Mesa 25 or later.');
  const codename = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? '';
  // Later releases have a Mesa that is new enough (untested).
  const suite = codename === 'bookworm' ? 'bookworm-backports' : codename;
  const source = sourceOf(sourceFiles(), codename, suite);
  if (source === undefined) throw new Error(`/etc/apt has no source of Debian "${codename}", component main, to take ${PACKAGE} from.`);
  rmSync(FOLDER, { recursive: true, force: true });
  for (const part of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(FOLDER, part), { recursive: true });
  writeFileSync(join(FOLDER, 'sources.list'), `${source}\n`);
  const own = {
    'Dir::Etc::sourcelist': join(FOLDER, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State::lists': join(FOLDER, 'lists'),
    'Dir::Cache': join(FOLDER, 'cache'),
  };
  const options = Object.entries(own).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  log(`fetching ${PACKAGE} of ${suite} (11 MB, once)`);
  /** @param {string} file @param {string[]} args */
  const must = async (file, args) => {
    const { code, all } = await runQuiet([file, args], { cwd: FOLDER, timeoutMs: 300_000 });
    if (code !== 0) throw new Error(`${file} ${args.at(-1)} failed:\n${all}`);
    return all;
  };
  await must('apt-get', [...options, 'update']);
  await must('apt-get', [...options, 'download', PACKAGE]);
  const archive = readdirSync(FOLDER).find((name) => name.endsWith('.deb'));
  if (archive === undefined) throw new Error(`apt-get download ${PACKAGE} left no file.`);
  await must('dpkg', ['-x', archive, 'root']);
  const library = libraryIn(FOLDER);
  if (library === undefined) throw new Error(`${archive} has no lavapipe.`);
  const missing = (await must('ldd', [library])).split('\n').filter((line) => line.includes('not found'));
  if (missing.length > 0) throw new Error(`lavapipe misses libraries:\n${missing.join('\n')}\nAs root, type "${LIBRARIES}".`);
  writeFileSync(icd, JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: library, api_version: '1.4.0' } }));
  return icd;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) console.log(await ensureLavapipe());
