import type { Readable, Writable } from 'node:stream';

export interface Output {
  write(text: string): void;
  readonly isTTY: boolean;
  readonly columns: number;
}

/** All that commands see of the process, so that tests can stand in for it. */
export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly stdin: {
    readonly isTTY: boolean;
    /** Everything up to the end of the input, as UTF-8. */
    readAll(): Promise<string>;
    /** Line by line, without line ends. */
    lines(): AsyncIterable<string>;
  };
  /** The streams behind stdin and stdout, for prompts that are drawn and read key by key. */
  readonly terminal?: { readonly input: Readable; readonly output: Writable };
  /** The file that runs as the program, for commands that start more of it. */
  readonly program?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Lets pending signals and writes be handled: CPU work never leaves the event loop by itself. */
  breathe(): Promise<void>;
  /** Until the returned function is called, Ctrl-C calls `handler` instead of ending the process. */
  onInterrupt(handler: () => void): () => void;
}
