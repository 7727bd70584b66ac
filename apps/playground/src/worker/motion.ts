import type { MotionKind } from './protocol.js';

/** Relative change below which a state counts as at rest. */
export const AT_REST = 0.01;

const distance = (points: Float32Array, i: number, j: number): number =>
  Math.hypot(points[2 * i]! - points[2 * j]!, points[2 * i + 1]! - points[2 * j + 1]!);

/**
 * What the last half of a path in the plane does: it rests (the state itself hardly changes any more), comes back to where it was
 * (an orbit: it travels much and gets nowhere), or goes on in one direction (a slider). Short paths are still moving.
 */
export function motionOf(points: Float32Array, lastChange: number): MotionKind {
  const count = points.length / 2;
  if (lastChange < AT_REST) return 'fixed point';
  const from = Math.floor(count / 2);
  if (count - from < 4) return 'still moving';
  let travelled = 0;
  for (let i = from + 1; i < count; i++) travelled += distance(points, i, i - 1);
  const straightness = distance(points, from, count - 1) / (travelled || 1);
  if (straightness > 0.7) return 'slider';
  return straightness < 0.35 ? 'orbit' : 'still moving';
}

/** |s_i - s_{i-1}| / |s_i| for i = 1..r of states (r + 1, T, C): (r, T). */
export function relativeChange(states: Float32Array, recurrences: number, positions: number, width: number): Float32Array {
  const out = new Float32Array(recurrences * positions);
  for (let i = 1; i <= recurrences; i++) {
    for (let t = 0; t < positions; t++) {
      const now = (i * positions + t) * width;
      const before = now - positions * width;
      let moved = 0;
      let size = 0;
      for (let c = 0; c < width; c++) {
        moved += (states[now + c]! - states[before + c]!) ** 2;
        size += states[now + c]! ** 2;
      }
      out[(i - 1) * positions + t] = Math.sqrt(moved / size);
    }
  }
  return out;
}
