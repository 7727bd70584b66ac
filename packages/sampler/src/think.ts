import { tidy } from '@unroll/tensor';
import { thinkAdaptively } from './adaptive.js';
import { type Call, Course, lastColumn, open, readLogits, type Thought } from './call.js';
import { pause, pauseDue } from './pause.js';
import type { Engine } from './run.js';

/** Runs a call to its depth, or until each lane's exit rule stops it. */
export async function think(engine: Engine, call: Call): Promise<Thought> {
  if (call.exit !== undefined) return thinkAdaptively(engine, call, call.exit);
  const { device } = engine.model;
  const { pass, e, state } = open(engine, call);
  const course = new Course(engine, pass, e, state, call.start);
  try {
    for (let loop = call.from ?? 0; loop < call.depth; ) {
      if (pauseDue()) await pause(engine.signal);
      loop = course.advanceSome(loop, call.depth);
    }
    return tidy(device, () => ({
      logits: readLogits(engine, course.state, pass, call.readout),
      state: lastColumn(course.state),
      depths: call.lanes.map(() => call.depth),
      exits: call.lanes.map(() => undefined),
    }));
  } finally {
    course.dispose();
    pass.dispose();
  }
}
