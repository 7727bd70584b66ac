import { type Flags, readText } from '../args.js';
import { runChatCommand } from '../chat/commands.js';
import { type Frontend, INTERRUPT, plainFrontend, terminalFrontend } from '../chat/frontend.js';
import { ChatSession } from '../chat/session.js';
import type { Command } from '../command.js';
import { describeError, EXIT } from '../errors.js';
import { modelArgs, samplingArgs, stateArgs } from '../flags.js';
import type { Io } from '../io.js';
import { loadModel, modelChoice } from '../model/load.js';
import { samplingOptions } from '../sampling.js';

export const command: Command = {
  name: 'chat',
  description: 'talk with a model',
  args: {
    system: { type: 'string', valueHint: 'TEXT', description: 'system prompt, for models whose chat template has a place for it' },
    ...modelArgs,
    ...samplingArgs,
    ...stateArgs,
  },
  notes: [
    'Lines that begin with / are commands: /depth, /seed, /system, /clear, /save, /help, /exit. Ctrl-C ends a reply and keeps the conversation;',
    'at the prompt, twice in a row leaves. From a pipe, each line is a message and each reply a line; the exit code is 1 if any line failed.',
    'A model without a chat template continues each message as plain text, without the messages before it.',
  ],
  examples: ['unroll chat', 'unroll chat --depth 4', 'printf "731+094=\\n/depth 1\\n731+094=\\n" | unroll chat'],
  run,
};

const REMARK_TEMPLATE = 'Type a message; Ctrl-C ends a reply, /exit leaves.';
const REMARK_PLAIN =
  'This model has no chat template: each message is continued as plain text, without the messages before it. /exit leaves.';

/** Streams a reply; Ctrl-C ends it and keeps the session. */
async function answer(session: ChatSession, line: string, frontend: Frontend, io: Io): Promise<void> {
  const controller = new AbortController();
  const release = io.onInterrupt(() => controller.abort());
  try {
    const turn = { signal: controller.signal, breathe: io.breathe, note: frontend.info };
    await frontend.reply(session.reply(line, turn));
  } finally {
    release();
  }
  if (controller.signal.aborted) frontend.info('interrupted; what there is of the reply stays in the conversation');
}

/** One line of input. Gives whether the conversation goes on. */
async function handle(session: ChatSession, line: string, frontend: Frontend, io: Io): Promise<boolean> {
  if (line.trim() === '') return true;
  if (!line.startsWith('/')) {
    await answer(session, line, frontend, io);
    return true;
  }
  const outcome = await runChatCommand(session, line);
  if (outcome === 'exit') return false;
  if (outcome === 'help') frontend.help();
  else frontend.info(outcome.text);
  return true;
}

async function converse(session: ChatSession, frontend: Frontend, io: Io): Promise<number> {
  let code: number = EXIT.ok;
  let interrupted = false;
  for (;;) {
    const line = await frontend.read();
    if (line === undefined) return code;
    if (line === INTERRUPT) {
      if (interrupted) return EXIT.interrupted;
      interrupted = true;
      frontend.info('Ctrl-C once more leaves, and so does /exit');
      continue;
    }
    interrupted = false;
    try {
      if (!(await handle(session, line, frontend, io))) return code;
    } catch (error) {
      const { line: message } = await describeError(error);
      frontend.error(message);
      // On a terminal the person has seen it and goes on; a script learns it from the exit code.
      if (!io.stdin.isTTY) code = EXIT.failure;
    }
  }
}

async function run(flags: Flags, io: Io): Promise<number> {
  const sampling = samplingOptions(flags);
  const loaded = await loadModel(modelChoice(flags), io);
  try {
    const session = new ChatSession(loaded, sampling, readText(flags, 'system'));
    const onTerminal = io.terminal !== undefined && io.stdin.isTTY && io.stdout.isTTY;
    const frontend = onTerminal ? await terminalFrontend(io, io.terminal!) : plainFrontend(io);
    frontend.start(`Unroll, ${loaded.name}, depth ${session.depth}`, session.hasTemplate ? REMARK_TEMPLATE : REMARK_PLAIN);
    const code = await converse(session, frontend, io);
    frontend.end();
    return code;
  } finally {
    await loaded.dispose();
  }
}
