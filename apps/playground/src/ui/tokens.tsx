import { signal } from '@preact/signals';
import type { TokenItem, TraceResult } from '../worker/protocol.js';
import { depthColor } from './color.js';
import { percent } from './format.js';
import { TokenCard } from './token-card.js';

interface Shown {
  readonly key: string;
  readonly pinned: boolean;
}
/** At most one card is open on the page. */
const open = signal<Shown | undefined>(undefined);
const close = () => {
  open.value = undefined;
};

const describe = ({ recurrences, logprob, exit }: TokenItem): string =>
  `, ${recurrences} ${recurrences === 1 ? 'recurrence' : 'recurrences'}${exit?.stopped ? ' (stopped early)' : ''}, probability ${percent(Math.exp(logprob))}`;

/** An answer, token by token, each tinted by the recurrences it took. Hovering, focusing or clicking one opens its card. */
export function Tokens(props: {
  name: string;
  tokens: readonly TokenItem[];
  /** Tokens before the answer: the first answer token is read at the position before it. */
  promptLength: number;
  trace: TraceResult | undefined;
  threshold?: number;
  running: boolean;
}) {
  const { tokens, name } = props;
  const shown = open.value;
  return (
    <div class="tokens" role="group" aria-label={`${name}: answer`} onPointerLeave={() => open.value?.pinned !== true && close()}>
      {tokens.map((item, i) => {
        const key = `${name} ${i}`;
        const isOpen = shown?.key === key;
        return (
          <span class="token-place" key={key}>
            <button
              type="button"
              class="token"
              style={{ '--depth': depthColor(item.recurrences) }}
              aria-expanded={isOpen}
              onPointerEnter={(event) => {
                if (event.pointerType === 'mouse' && open.value?.pinned !== true) open.value = { key, pinned: false };
              }}
              onFocus={(event) => {
                if (event.currentTarget.matches(':focus-visible')) open.value = { key, pinned: true };
              }}
              onClick={() => {
                open.value = isOpen && shown.pinned ? undefined : { key, pinned: true };
              }}
              onKeyDown={(event) => event.key === 'Escape' && close()}
            >
              <span class="token-text">{item.label}</span>
              <span class="token-depth" aria-hidden="true">
                {item.recurrences}
              </span>
              <span class="unseen">{describe(item)}</span>
            </button>
            {isOpen ? (
              <TokenCard
                item={item}
                position={props.promptLength + i - 1}
                trace={props.trace}
                threshold={props.threshold}
                onClose={close}
              />
            ) : null}
          </span>
        );
      })}
      {props.running ? <span class="caret" aria-hidden="true" /> : null}
    </div>
  );
}
