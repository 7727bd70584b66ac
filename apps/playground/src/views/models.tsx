import { signal, useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { engine, messageOf, model, refreshStorage, report, storage, takeModel } from '../state/app.js';
import { collectDrop, collectFiles, type PickedFile } from '../state/drop.js';
import { Bar, Empty } from '../ui/controls.js';
import { bytes, count, duration } from '../ui/format.js';
import { EngineError } from '../worker/client.js';
import type { DownloadProgress, StoredModel } from '../worker/protocol.js';

const HUB = 'https://huggingface.co';

const progress = signal<DownloadProgress | undefined>(undefined);
const problem = signal<{ readonly text: string; readonly origin: string } | undefined>(undefined);
let controller: AbortController | undefined;

async function download(origin: string, endpoint: string): Promise<void> {
  controller = new AbortController();
  problem.value = undefined;
  try {
    const stored = await engine.call(
      'download',
      { origin, endpoint, revision: 'main' },
      { signal: controller.signal, onItem: (item) => (progress.value = item) },
    );
    progress.value = undefined;
    await refreshStorage();
    await takeModel({ kind: 'stored', id: stored.id });
  } catch (error) {
    progress.value = undefined;
    if (!(error instanceof EngineError && error.kind === 'aborted')) problem.value = { text: messageOf(error), origin };
    await refreshStorage();
  }
}

async function take(files: Promise<readonly PickedFile[]>): Promise<void> {
  try {
    const found = await files;
    if (!found.some(({ name }) => name === 'config.json'))
      throw new Error(
        found.length === 0
          ? 'nothing was dropped'
          : `there is no config.json among ${found
              .map(({ name }) => name)
              .slice(0, 6)
              .join(', ')}; drop the whole folder of the checkpoint`,
      );
    await takeModel({ kind: 'files', name: found[0]!.folder, files: found.map(({ name, blob }) => ({ name, blob })) });
  } catch (error) {
    report(error, 'Opening the files');
  }
}

function DropZone() {
  const over = useSignal(false);
  return (
    <div
      class={over.value ? 'drop over' : 'drop'}
      onDragOver={(event) => {
        event.preventDefault();
        over.value = true;
      }}
      onDragLeave={() => (over.value = false)}
      onDrop={(event) => {
        event.preventDefault();
        over.value = false;
        if (event.dataTransfer !== null) void take(collectDrop(event.dataTransfer));
      }}
    >
      <p>Drop a checkpoint folder or its files here: config.json, tokenizer.json, *.safetensors. They stay on this machine.</p>
      <p class="buttons">
        <label class="button">
          Choose a folder
          <input
            class="unseen"
            type="file"
            multiple
            {...{ webkitdirectory: '' }}
            onChange={(event) => void take(collectFiles(event.currentTarget.files))}
          />
        </label>
        <label class="button">
          Choose files
          <input
            class="unseen"
            type="file"
            multiple
            data-testid="files"
            onChange={(event) => void take(collectFiles(event.currentTarget.files))}
          />
        </label>
      </p>
    </div>
  );
}

function Progress({ now }: { now: DownloadProgress }) {
  const part = now.total > 0 ? now.loaded / now.total : 0;
  const what = {
    listing: 'asking for the list of files',
    loading: 'loading',
    checking: 'checking the SHA-256 of',
    retrying: 'connecting again for',
  }[now.state];
  return (
    <div class="download" role="group" aria-label="Download">
      <Bar part={part} label="Download" />
      <p>
        {what} {now.file} {now.fileCount > 0 ? `(${now.fileNumber} of ${now.fileCount})` : ''}
      </p>
      <p class="quiet tabular">
        {bytes(now.loaded)} of {bytes(now.total)}
        {now.bytesPerSecond > 0 ? `, ${bytes(now.bytesPerSecond)}/s` : ''}
        {now.secondsLeft === undefined ? '' : `, ${duration(now.secondsLeft)} left`}
        {now.note === undefined ? '' : `. ${now.note}`}
      </p>
      <button type="button" onClick={() => controller?.abort()}>
        Pause
      </button>
    </div>
  );
}

function Remote() {
  const origin = useSignal('');
  const endpoint = useSignal(HUB);
  const now = progress.value;
  return (
    <form
      class="remote"
      onSubmit={(event) => {
        event.preventDefault();
        void download(origin.value.trim(), endpoint.value.trim());
      }}
    >
      <div class="ask-row">
        <label class="unseen" for="origin">
          Hub id or address
        </label>
        <input
          id="origin"
          class="prompt"
          autocomplete="off"
          placeholder="owner/model or https://…/checkpoint/"
          value={origin.value}
          onInput={(event) => (origin.value = event.currentTarget.value)}
        />
        <button type="submit" class="primary" disabled={now !== undefined || origin.value.trim() === ''}>
          Download
        </button>
      </div>
      <details class="more">
        <summary>Hub: {endpoint.value}</summary>
        <label class="field">
          <span>Address of the hub</span>
          <input value={endpoint.value} onInput={(event) => (endpoint.value = event.currentTarget.value)} />
        </label>
      </details>
      {now === undefined ? null : <Progress now={now} />}
      {problem.value === undefined ? null : (
        <p class="problem" role="alert">
          {problem.value.text}{' '}
          <button type="button" onClick={() => void download(problem.value!.origin, endpoint.value)}>
            Try again
          </button>
        </p>
      )}
    </form>
  );
}

function Stored({ stored }: { stored: StoredModel }) {
  const remove = async () => {
    try {
      storage.value = await engine.call('remove', { id: stored.id });
    } catch (error) {
      report(error, 'Deleting the model');
    }
  };
  return (
    <tr>
      <th scope="row">{stored.origin}</th>
      <td class="tabular">{stored.complete ? bytes(stored.bytes) : `${bytes(stored.bytes)} of ${bytes(stored.totalBytes)}`}</td>
      <td>
        {stored.complete
          ? stored.verified > 0
            ? `SHA-256 checked: ${stored.verified} of ${stored.files.length} files`
            : 'no checksums given'
          : 'not whole'}
      </td>
      <td class="buttons">
        {stored.complete ? (
          <button type="button" onClick={() => void takeModel({ kind: 'stored', id: stored.id })}>
            Use
          </button>
        ) : (
          <button type="button" disabled={progress.value !== undefined} onClick={() => void download(stored.origin, stored.endpoint)}>
            Resume
          </button>
        )}
        <button type="button" onClick={() => void remove()}>
          Delete
        </button>
      </td>
    </tr>
  );
}

function Storage() {
  const now = storage.value;
  useEffect(() => void refreshStorage(), []);
  if (now === undefined) return null;
  if (!now.available) return <Empty>This browser keeps no files for pages, so models cannot be stored. Dropping a folder works.</Empty>;
  return (
    <>
      <Bar part={now.quota > 0 ? now.usage / now.quota : 0} label="Storage used" />
      <p class="quiet">
        {bytes(now.usage)} used of {bytes(now.quota)} that the browser gives this page.{' '}
        {now.persistent ? (
          'It will not be cleared by itself.'
        ) : (
          <button
            type="button"
            class="small"
            onClick={() =>
              void engine.call('persist', undefined).then(
                (info) => (storage.value = info),
                (error: unknown) => report(error, 'Asking to keep the storage'),
              )
            }
          >
            Ask the browser to keep it
          </button>
        )}
      </p>
      {now.models.length === 0 ? (
        <Empty>Nothing is stored yet. What you download stays here and works offline.</Empty>
      ) : (
        <div class="scroll">
          <table class="plain stored">
            <caption class="unseen">Stored models</caption>
            <tbody>
              {now.models.map((stored) => (
                <Stored key={stored.id} stored={stored} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

export function ModelsView() {
  const info = model.value;
  return (
    <div class="page">
      <h1>Models</h1>
      {info === undefined ? (
        <section class="now" aria-label="The model in use">
          <p class="quiet">Loading the model …</p>
        </section>
      ) : (
        <section class="now" aria-label="The model in use">
          <p>
            <b>{info.name}</b>: {count(info.parameters)} parameters, {info.layers.prelude} + {info.layers.core} (repeated) +{' '}
            {info.layers.coda} layers, width {info.width}, context {info.contextLength}, trained around depth {info.meanRecurrence}.
          </p>
          {info.about === '' ? null : <p class="quiet">{info.about}</p>}
          {info.source === 'embedded' ? null : (
            <button type="button" onClick={() => void takeModel({ kind: 'embedded', name: '' })}>
              Back to the built-in model
            </button>
          )}
        </section>
      )}
      <h2>From this machine</h2>
      <DropZone />
      <h2>From the network</h2>
      <Remote />
      <h2>Stored in this browser</h2>
      <Storage />
    </div>
  );
}
