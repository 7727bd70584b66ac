/** Thrown by the cursor; the caller turns it into a typed error that names the file. */
export class JsonProblem {
  constructor(
    readonly position: number,
    readonly what: string,
  ) {}
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LONE_SURROGATE = /\p{Surrogate}/u;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

/**
 * A strict one-pass reader over JSON text. `JSON.parse` cannot serve untrusted headers: it hides duplicate keys, rounds
 * large integers, and builds whatever nesting it is given before anyone can object. This one builds nothing by itself:
 * the caller asks for what the schema wants next and anything else is refused at its position, so time is linear in the
 * text and memory is what the caller keeps.
 */
export class JsonCursor {
  #at = 0;

  constructor(readonly text: string) {}

  get position(): number {
    return this.#at;
  }

  fail(what: string, position = this.#at): never {
    throw new JsonProblem(position, what);
  }

  /** The next character after white space, '' at the end. */
  peek(): string {
    this.#skipSpace();
    return this.text.charAt(this.#at);
  }

  expect(character: string): void {
    const found = this.peek();
    if (found !== character) this.fail(`expected ${character}, found ${describe(found)}`);
    this.#at++;
  }

  end(): void {
    if (this.peek() !== '') this.fail('expected the end of the text');
  }

  /** Calls `value` once per key of the object at the cursor; `value` must consume that key's value. */
  object(value: (key: string, keyPosition: number) => void): void {
    this.expect('{');
    if (this.peek() === '}') {
      this.#at++;
      return;
    }
    for (;;) {
      this.#skipSpace();
      const keyPosition = this.#at;
      const key = this.string();
      this.expect(':');
      value(key, keyPosition);
      const next = this.peek();
      if (next !== ',' && next !== '}') this.fail(`expected , or }, found ${describe(next)}`);
      this.#at++;
      if (next === '}') return;
    }
  }

  /** Calls `item` once per element of the array at the cursor; `item` must consume the element. */
  array(item: () => void): void {
    this.expect('[');
    if (this.peek() === ']') {
      this.#at++;
      return;
    }
    for (;;) {
      item();
      const next = this.peek();
      if (next !== ',' && next !== ']') this.fail(`expected , or ], found ${describe(next)}`);
      this.#at++;
      if (next === ']') return;
    }
  }

  string(): string {
    this.#skipSpace();
    const { text } = this;
    const start = this.#at;
    if (text.charCodeAt(start) !== QUOTE) this.fail(`expected a string, found ${describe(text.charAt(start))}`);
    let at = start + 1;
    let escaped = false;
    for (;;) {
      const code = text.charCodeAt(at);
      if (code === QUOTE) break;
      if (Number.isNaN(code)) this.fail('a string is not closed', start);
      if (code < 0x20) this.fail('a string holds an unescaped control character', at);
      if (code === BACKSLASH) {
        escaped = true;
        at++;
      }
      at++;
    }
    this.#at = at + 1;
    const raw = text.slice(start + 1, at);
    if (!escaped) return raw;
    let value: string;
    try {
      value = JSON.parse(text.slice(start, at + 1)) as string;
    } catch {
      this.fail('a string holds a malformed escape', start);
    }
    if (LONE_SURROGATE.test(value)) this.fail('a string holds half of a surrogate pair', start);
    return value;
  }

  /** An integer from 0 to 2^53-1 in plain digits: no sign, fraction, exponent or leading zero. */
  unsigned(what: string): number {
    this.#skipSpace();
    const { text } = this;
    const start = this.#at;
    let at = start;
    let value = 0;
    for (;;) {
      const digit = text.charCodeAt(at) - 0x30;
      if (!(digit >= 0 && digit <= 9)) break;
      value = value * 10 + digit;
      if (value > Number.MAX_SAFE_INTEGER) this.fail(`${what} passes 2^53-1`, start);
      at++;
    }
    const next = text.charAt(at);
    if (at === start || next === '.' || next === 'e' || next === 'E') this.fail(`${what} must be a plain integer of 0 or more`, start);
    if (at - start > 1 && text.charCodeAt(start) === 0x30) this.fail(`${what} has a leading zero`, start);
    this.#at = at;
    return value;
  }

  /** Passes over one value of any kind. `depth` bounds the recursion, so that hostile nesting cannot exhaust the stack. */
  skip(depth: number): void {
    if (depth === 0) this.fail('values are nested too deeply');
    const next = this.peek();
    const skipInner = (): void => this.skip(depth - 1);
    if (next === '{') this.object(skipInner);
    else if (next === '[') this.array(skipInner);
    else if (next === '"') this.string();
    else this.#skipWord(next);
  }

  #skipWord(next: string): void {
    for (const word of ['true', 'false', 'null']) {
      if (this.text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return;
      }
    }
    NUMBER.lastIndex = this.#at;
    if (!NUMBER.test(this.text)) this.fail(`expected a value, found ${describe(next)}`);
    this.#at = NUMBER.lastIndex;
  }

  #skipSpace(): void {
    for (;;) {
      const code = this.text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.#at++;
    }
  }
}

function describe(character: string): string {
  return character === '' ? 'the end' : JSON.stringify(character);
}
