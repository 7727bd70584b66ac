import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';

export function Choice<T extends string>(props: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
  disabled?: boolean;
}) {
  return (
    <label class="field">
      <span>{props.label}</span>
      <select value={props.value} disabled={props.disabled ?? false} onChange={(event) => props.onChange(event.currentTarget.value as T)}>
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A number that is taken over when it is one and lies in the range; else the field says so and the setting stays. */
export function Amount(props: {
  label: string;
  value: number;
  least: number;
  most: number;
  step?: number | 'any';
  hint?: string;
  disabled?: boolean;
  onChange: (value: number) => void;
}) {
  const hint = useId();
  return (
    <label class="field">
      <span>{props.label}</span>
      <input
        type="number"
        inputMode="decimal"
        value={props.value}
        min={props.least}
        max={props.most}
        step={props.step ?? 1}
        disabled={props.disabled ?? false}
        aria-describedby={props.hint === undefined ? undefined : hint}
        onInput={(event) => {
          const { valueAsNumber, validity } = event.currentTarget;
          if (validity.valid && Number.isFinite(valueAsNumber)) props.onChange(valueAsNumber);
        }}
      />
      {props.hint === undefined ? null : (
        <small id={hint} class="quiet">
          {props.hint}
        </small>
      )}
    </label>
  );
}

export function Tick(props: { label: string; value: boolean; onChange: (value: boolean) => void; disabled?: boolean }) {
  return (
    <label class="tick">
      <input
        type="checkbox"
        checked={props.value}
        disabled={props.disabled ?? false}
        onChange={(event) => props.onChange(event.currentTarget.checked)}
      />
      <span>{props.label}</span>
    </label>
  );
}

/** A row of buttons of which one is chosen. */
export function Segments<T extends string | number>(props: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}) {
  return (
    <fieldset class="segments">
      <legend class="unseen">{props.label}</legend>
      {props.options.map(([value, text]) => (
        <button key={value} type="button" aria-pressed={value === props.value} onClick={() => props.onChange(value)}>
          {text}
        </button>
      ))}
    </fieldset>
  );
}

export function Metric({ name, value, title }: { name: string; value: string; title?: string }) {
  return (
    <div class="metric" title={title}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

export function Bar({ part, label }: { part: number; label: string }) {
  return (
    <div class="bar" role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * part)}>
      <div style={{ width: `${100 * Math.min(1, Math.max(0, part))}%` }} />
    </div>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}
