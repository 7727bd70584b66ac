import { useEffect } from 'preact/hooks';
import { memory, model, type PaneState, refreshMemory } from '../state/app.js';
import { Empty } from '../ui/controls.js';
import { bytes } from '../ui/format.js';
import type { ModelInfo } from '../worker/protocol.js';

interface PolicyCost {
  readonly name: string;
  readonly calls: number;
}

/** Layer calls whose keys a decoded token keeps, by policy, at depth r. */
export function policyCosts({ layers: { prelude, core, coda } }: ModelInfo, r: number): PolicyCost[] {
  const around = prelude + coda;
  return [
    { name: 'full, latest, always-last, skip', calls: around + core * r },
    { name: 'compress-anchor', calls: around + core * Math.min(r, 9) },
    { name: 'one recurrence’s budget (compress-s), last-only', calls: around + core },
  ];
}

function Bars({ rows, most }: { rows: readonly (readonly [string, number])[]; most: number }) {
  return (
    <div class="memory-rows">
      {rows.map(([name, size]) => (
        <div key={name} class="memory-row">
          <span>{name}</span>
          <div class="memory-bar">
            <i style={{ width: `${most > 0 ? Math.max(0.5, (100 * size) / most) : 0}%` }} />
          </div>
          <b>{bytes(size)}</b>
        </div>
      ))}
    </div>
  );
}

/** What the model, its keys and its work take. */
export function MemoryView({ state }: { state: PaneState }) {
  useEffect(() => void refreshMemory(), [state.summary]);
  const info = model.value;
  const now = memory.value;
  if (info === undefined || now === undefined) return <Empty>Load a model to see what it takes.</Empty>;
  const r = state.run?.depth ?? info.meanRecurrence;
  const live: [string, number][] = [
    ['weights', now.weights],
    ['keys and values, now', now.kv],
    ['scratch, now', now.scratch],
    ['peak of all', now.peak],
    ['held from the system', now.reserved],
  ];
  const costs = policyCosts(info, r);
  const perToken = costs.map(({ name, calls }): [string, number] => [name, calls * info.kvBytesPerCall]);
  const tokens = state.summary?.labels.length;
  return (
    <div class="two">
      <figure>
        <figcaption>On the device</figcaption>
        <Bars rows={live} most={Math.max(...live.map(([, size]) => size))} />
      </figure>
      <figure>
        <figcaption>Keys and values of one token at depth {r}, by KV policy</figcaption>
        <Bars rows={perToken} most={perToken[0]![1]} />
        <p class="quiet">
          {tokens === undefined || state.summary === undefined
            ? ''
            : `This answer kept ${bytes(state.summary.kvBytes)} in ${state.summary.kvSlots} slots for ${tokens - 1} tokens. `}
          A whole context of {info.contextLength} tokens: {bytes(perToken[0]![1] * info.contextLength)} in full,{' '}
          {bytes(perToken[2]![1] * info.contextLength)} with one recurrence’s budget.
        </p>
      </figure>
    </div>
  );
}
