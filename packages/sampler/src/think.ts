import { tidy } from '@unroll/tensor';
import { thinkAdaptively } from './adaptive.js';
import { type Call, lastColumn, open, readLogits, recur, type Thought } from './call.js';
import type { Engine } from './run.js';

/** Runs a call to its depth, or until each lane's exit rule stops it. */
export function think(engine: Engine, call: Call): Thought | Promise<Thought> {
  if (call.exit !== undefined) return thinkAdaptively(engine, call, call.exit);
  const { device } = engine.model;
  return tidy(device, () => {
    const { pass, e, state: start } = open(engine, call);
    try {
      let state = start;
      for (let loop = call.from ?? 0; loop < call.depth; loop++) {
        const next = tidy(device, () => recur(engine, e, state, loop, pass));
        if (state !== call.start && state !== next) state.dispose();
        state = next;
      }
      const logits = readLogits(engine, state, pass, call.readout);
      return { logits, state: lastColumn(state), depths: call.lanes.map(() => call.depth), exits: call.lanes.map(() => undefined) };
    } finally {
      pass.dispose();
    }
  });
}
