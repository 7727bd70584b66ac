import { signal, useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { solve, verdict } from '../state/answers.js';
import { engine, messageOf, model, onModel, onOpening, panes, setPane, shared } from '../state/app.js';
import { Dial } from '../ui/dial.js';
import { Tokens } from '../ui/tokens.js';
import { EngineError } from '../worker/client.js';
import type { RunSummary, TokenItem } from '../worker/protocol.js';

interface Turn {
  readonly id: number;
  readonly question: string;
  readonly depth: number;
  readonly tokens: readonly TokenItem[];
  readonly summary: RunSummary | undefined;
  readonly state: 'running' | 'done' | 'stopped' | 'error';
  readonly error: string;
}

const turns = signal<readonly Turn[]>([]);
let controller: AbortController | undefined;
let begun = 0;

const textOf = ({ tokens }: Turn): string => tokens.map(({ text }) => text).join('');

function clear(): void {
  controller?.abort();
  turns.value = [];
  void engine.call('chatReset', undefined);
}
onOpening.push(() => controller?.abort());
onModel.push(() => {
  turns.value = [];
});

async function send(question: string): Promise<void> {
  const run = panes[1].value;
  const before = turns.value.filter(({ state }) => state !== 'error');
  const messages = [
    ...before.flatMap((turn) => [
      { role: 'user' as const, content: turn.question },
      { role: 'assistant' as const, content: textOf(turn) },
    ]),
    { role: 'user' as const, content: question },
  ];
  const id = ++begun;
  turns.value = [...turns.value, { id, question, depth: run.depth, tokens: [], summary: undefined, state: 'running', error: '' }];
  const change = (part: Partial<Turn>) => {
    turns.value = turns.value.map((turn) => (turn.id === id ? { ...turn, ...part } : turn));
  };
  const tokens: TokenItem[] = [];
  const take = (token: TokenItem) => {
    tokens.push(token);
    change({ tokens: [...tokens] });
  };
  controller = new AbortController();
  try {
    const summary = await engine.call('chat', { messages, shared: shared.value, run }, { signal: controller.signal, onItem: take });
    change({ summary, state: 'done' });
  } catch (error) {
    if (error instanceof EngineError && error.kind === 'aborted') change({ state: 'stopped' });
    else change({ state: 'error', error: messageOf(error) });
  }
}

function remark({ summary, depth, state, question, tokens }: Turn): string {
  if (state === 'stopped') return 'stopped';
  if (summary === undefined) return state === 'running' ? `thinking at depth ${depth}` : '';
  const found = verdict(textOf({ tokens } as Turn), solve(question));
  return `${found === undefined ? '' : `${found.text}, `}depth ${depth}, ${summary.tokensPerSecond.toFixed(0)} tokens/s${summary.cachedTokens > 0 ? `, ${summary.cachedTokens} prompt tokens from the last turn` : ''}`;
}

/** A conversation at a depth that can be changed between messages. */
export function ChatView() {
  const draft = useSignal('');
  const end = useRef<HTMLDivElement>(null);
  const info = model.value;
  const busy = turns.value.some(({ state }) => state === 'running');
  const count = turns.value.length;
  useEffect(() => end.current?.scrollIntoView({ block: 'nearest' }), [count]);
  const settings = panes[1].value;
  return (
    <div class="page chat">
      <div class="chat-log" role="log" aria-label="Conversation">
        {count === 0 ? (
          <p class="empty">
            {info?.hasTemplate === true
              ? 'Say something. The conversation’s keys are kept between turns, and the depth may change with every message.'
              : `${info?.name ?? 'This model'} has no chat format: each message is continued as it stands, by itself. Try ${info?.examples[0]?.prompt ?? 'a prompt'}`}
          </p>
        ) : null}
        {turns.value.map((turn, i) => (
          <div class="turn" key={i}>
            <p class="question">{turn.question}</p>
            <div class="reply">
              <Tokens
                name={`Reply ${i + 1}`}
                tokens={turn.tokens}
                promptLength={turn.summary?.prompt.length ?? 0}
                trace={undefined}
                running={turn.state === 'running'}
              />
              <p class="quiet">{remark(turn)}</p>
              {turn.error === '' ? null : (
                <p class="problem" role="alert">
                  {turn.error}
                </p>
              )}
            </div>
          </div>
        ))}
        <div ref={end} />
      </div>
      <form
        class="chat-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (busy) controller?.abort();
          else if (draft.value.trim() !== '') {
            void send(draft.value.trim());
            draft.value = '';
          }
        }}
      >
        <Dial value={settings.depth} label="Depth of the next reply" onChange={(depth) => setPane(1, { depth })} />
        <div class="chat-box">
          <label class="unseen" for="message">
            Message
          </label>
          <input
            id="message"
            class="prompt"
            autocomplete="off"
            value={draft.value}
            placeholder="Message"
            onInput={(event) => (draft.value = event.currentTarget.value)}
          />
          <p class="buttons">
            <button type="submit" class="primary" disabled={info?.hasTokenizer !== true}>
              {busy ? 'Stop' : 'Send'}
            </button>
            <button type="button" disabled={count === 0} onClick={clear}>
              New conversation
            </button>
            <span class="quiet">Strategy, KV policy and sampling are those of pane B.</span>
          </p>
        </div>
      </form>
    </div>
  );
}
