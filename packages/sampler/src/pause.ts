/** Milliseconds of work between two turns of the event loop. */
const turnEvery = 30;

/** The event loop is the thread's, so all runs on it share the time of its last turn. */
let lastTurn = Number.NEGATIVE_INFINITY;

/** Whether this thread has worked so long that timers, signals and input should have their turn: then `await pause(signal)`. */
export const pauseDue = (): boolean => performance.now() - lastTurn >= turnEvery;

/** Gives the event loop one turn. Never inside a tidy. Throws the signal's reason once it is aborted. */
export async function pause(signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  // A browser holds nested timers back by 4 ms, and by a second in a hidden tab; messages it does not.
  const { port1, port2 } = new MessageChannel();
  await new Promise<void>((resolve) => {
    port1.onmessage = () => resolve();
    port2.postMessage(0);
  });
  // An open port would keep a Node process alive.
  port1.close();
  lastTurn = performance.now();
  signal?.throwIfAborted();
}
