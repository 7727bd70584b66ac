/** Safari throws when a page changes its address more than 100 times in 30 seconds. So many at once, and then one each so often, stay below. */
export const ADDRESS_PACE = { burst: 30, everyMs: 500 };

/**
 * `write`, for values that may come faster than it may be called: a value is written at once as long as there is room for it, and else the
 * latest one as soon as there is.
 */
export function paced<T>(write: (value: T) => void, { burst, everyMs }: { readonly burst: number; readonly everyMs: number }) {
  let room = burst;
  let counted = performance.now();
  let late: { value: T } | undefined;
  const count = () => {
    const now = performance.now();
    room = Math.min(burst, room + (now - counted) / everyMs);
    counted = now;
  };
  const put = (value: T) => {
    room--;
    write(value);
  };
  return (value: T): void => {
    if (late !== undefined) {
      late.value = value;
      return;
    }
    count();
    if (room >= 1) {
      put(value);
      return;
    }
    late = { value };
    setTimeout(
      () => {
        count();
        const { value: latest } = late!;
        late = undefined;
        put(latest);
      },
      (1 - room) * everyMs,
    );
  };
}
