import type { TextCodec } from './language-model.js';

/** How much of the end of `text` may be the beginning of a stop string. */
function heldBack(text: string, stops: readonly string[]): number {
  let most = 0;
  for (const stop of stops) {
    for (let n = Math.min(stop.length - 1, text.length); n > most; n--) {
      if (text.endsWith(stop.slice(0, n))) {
        most = n;
        break;
      }
    }
  }
  return most;
}

/** The stop string that a text completes first, so that it does not matter into which tokens the text is cut. */
function findStop(text: string, stops: readonly string[]): { readonly stop: string; readonly at: number } | undefined {
  let found: { stop: string; at: number } | undefined;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    const earlier = found === undefined || at + stop.length < found.at + found.stop.length;
    const longer = found !== undefined && at + stop.length === found.at + found.stop.length && at < found.at;
    if (at >= 0 && (earlier || longer)) found = { stop, at };
  }
  return found;
}

/**
 * The text of one sequence as it becomes final: text that may be the beginning of a stop string waits until the next tokens decide,
 * so no part of a stop string is ever given out, whatever tokens it is cut into.
 */
export class TextStream {
  readonly #decoder: ReturnType<TextCodec['stream']> | undefined;
  #waiting = '';

  constructor(
    codec: TextCodec | undefined,
    prompt: readonly number[],
    private readonly stops: readonly string[],
  ) {
    this.#decoder = codec?.stream({ after: prompt });
  }

  /** Text that is final with this token, and the stop string that it completed, if any. */
  push(token: number): { readonly text: string; readonly stop?: string } {
    return this.#take(this.#decoder?.push(token) ?? '');
  }

  /** The rest, at the end. */
  flush(): { readonly text: string; readonly stop?: string } {
    const last = this.#take(this.#decoder?.flush() ?? '');
    const rest = this.#waiting;
    this.#waiting = '';
    return last.stop === undefined ? { text: last.text + rest } : last;
  }

  #take(more: string): { readonly text: string; readonly stop?: string } {
    this.#waiting += more;
    const found = findStop(this.#waiting, this.stops);
    if (found !== undefined) {
      const text = this.#waiting.slice(0, found.at);
      this.#waiting = '';
      return { text, stop: found.stop };
    }
    const final = this.#waiting.length - heldBack(this.#waiting, this.stops);
    const text = this.#waiting.slice(0, final);
    this.#waiting = this.#waiting.slice(final);
    return { text };
  }
}
