let index: i32 = 0;

/** Which thread this instance runs on: 0 is the one that calls. */
export function threadIndex(): i32 {
  return index;
}

export function setThread(to: i32): void {
  index = to;
}

/** The part of `scratch` that belongs to this thread, `bytes` for each. */
@inline
export function own(scratch: usize, bytes: i32): usize {
  return scratch + <usize>index * <usize>bytes;
}
