/** A file of a checkpoint: its name below the chosen folder. */
export interface PickedFile {
  readonly folder: string;
  readonly name: string;
  readonly blob: Blob;
}

const WANTED = /\.(json|safetensors|md|txt|jinja)$/i;

/** Takes the common first folder off paths such as `model/config.json`. */
function relative(files: readonly { readonly path: string; readonly blob: Blob }[]): PickedFile[] {
  const wanted = files.filter(({ path }) => WANTED.test(path));
  const config = wanted.find(({ path }) => path === 'config.json' || path.endsWith('/config.json'));
  const base = config === undefined ? '' : config.path.slice(0, -'config.json'.length);
  const folder = base.split('/').filter(Boolean).at(-1) ?? 'local files';
  return wanted.flatMap(({ path, blob }) => (path.startsWith(base) ? [{ folder, name: path.slice(base.length), blob }] : []));
}

/** What an `<input type="file">` holds. */
export async function collectFiles(list: FileList | null): Promise<PickedFile[]> {
  return relative([...(list ?? [])].map((file) => ({ path: file.webkitRelativePath || file.name, blob: file })));
}

async function walk(entry: FileSystemEntry, found: { path: string; blob: Blob }[]): Promise<void> {
  const path = entry.fullPath.replace(/^\//, '');
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.push({ path, blob: file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // A reader gives at most a hundred entries at a time.
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0) return;
    for (const child of part) await walk(child, found);
  }
}

/** What was dropped: folders with all that is in them, or files. */
export async function collectDrop(data: DataTransfer): Promise<PickedFile[]> {
  // Entries must be taken before the first await: the drop's data goes when its event ends.
  const entries = [...data.items].flatMap((item) => item.webkitGetAsEntry?.() ?? []);
  const plain = [...data.files];
  const found: { path: string; blob: Blob }[] = [];
  for (const entry of entries) await walk(entry, found);
  return relative(found.length > 0 ? found : plain.map((file) => ({ path: file.name, blob: file })));
}
