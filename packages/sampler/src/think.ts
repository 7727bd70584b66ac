import { tidy } from '@unroll/tensor';
import { thinkAdaptively } from './adaptive.js';
import { type Call, lastColumn, open, readLogits, recur, type Thought } from './call.js';
import { pause, pauseDue } from './pause.js';
import type { Engine } from './run.js';

/** Runs a call to its depth, or until each lane's exit rule stops it. */
export async function think(engine: Engine, call: Call): Promise<Thought> {
  if (call.exit !== undefined) return thinkAdaptively(engine, call, call.exit);
  const { device } = engine.model;
  const opened = open(engine, call);
  const { pass, e } = opened;
  let { state } = opened;
  try {
    for (let loop = call.from ?? 0; loop < call.depth; loop++) {
      if (pauseDue()) await pause(engine.signal);
      const next = tidy(device, () => recur(engine, e, state, loop, pass));
      if (state !== call.start && state !== next) state.dispose();
      state = next;
    }
    return tidy(device, () => ({
      logits: readLogits(engine, state, pass, call.readout),
      state: lastColumn(state),
      depths: call.lanes.map(() => call.depth),
      exits: call.lanes.map(() => undefined),
    }));
  } finally {
    if (state !== call.start) state.dispose();
    e.dispose();
    pass.dispose();
  }
}
