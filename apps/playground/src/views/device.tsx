import { chooseDevice, device, deviceWish, engine, memory, model, refreshMemory, report, restart } from '../state/app.js';
import { Segments } from '../ui/controls.js';
import { bytes } from '../ui/format.js';

/** What computes here, why, and what to do when it does not. */
export function DeviceView() {
  const info = device.value;
  const now = memory.value;
  return (
    <div class="page">
      <h1>Device</h1>
      <p>Where the model computes. Nothing falls back silently: the reason for the choice is below.</p>
      <Segments
        label="Device"
        value={deviceWish.value}
        options={[['auto', 'Choose for me'] as const, ['webgpu', 'WebGPU'] as const, ['cpu', 'CPU'] as const]}
        onChange={(wish) => void chooseDevice(wish)}
      />
      {info === undefined ? null : (
        <dl class="facts">
          <div>
            <dt>Computing on</dt>
            <dd>
              <b>{info.kind === 'cpu' ? 'CPU' : 'WebGPU'}</b>: {info.reason}
            </dd>
          </div>
          <div>
            <dt>Details</dt>
            <dd>{info.description}</dd>
          </div>
          <div>
            <dt>Threads</dt>
            <dd>{info.kind === 'cpu' ? info.threads : 'the GPU’s own'}</dd>
          </div>
          <div>
            <dt>Cross-origin isolated</dt>
            <dd>{info.isolated ? 'yes: shared memory is there for threads' : 'no: without it there are no threads'}</dd>
          </div>
          <div>
            <dt>WebGPU adapter</dt>
            <dd>{info.gpu === 'none' ? 'none found' : info.gpu === 'software' ? 'there is one, in software' : 'there is one'}</dd>
          </div>
          <div>
            <dt>Model</dt>
            <dd>
              {model.value?.name}, {bytes(model.value?.weightBytes ?? 0)} of weights
            </dd>
          </div>
          <div>
            <dt>Memory</dt>
            <dd>
              {now === undefined
                ? ''
                : `${bytes(now.weights + now.kv + now.scratch)} live, peak ${bytes(now.peak)}, ${bytes(now.reserved)} from the system`}
            </dd>
          </div>
        </dl>
      )}
      <h2>When something goes wrong</h2>
      <p class="buttons">
        <button type="button" onClick={() => void restart()}>
          Start the engine anew
        </button>
        <button
          type="button"
          disabled={info?.kind !== 'webgpu'}
          onClick={() =>
            void engine.call('loseDevice', undefined).then(refreshMemory, (error: unknown) => report(error, 'Losing the device'))
          }
        >
          Lose the GPU, to see it recover
        </button>
      </p>
      <p class="quiet">
        A new engine gives all memory back and loads the model again. A lost GPU is replaced by itself at the next run: the answer goes on
        where it was.
      </p>
    </div>
  );
}
