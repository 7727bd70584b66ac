import { depthAt, depthColor, depthPlace } from './color.js';

const FROM = 135;
const SWEEP = 270;
const MARKS = [1, 2, 4, 8, 16, 32, 64];

const point = (place: number, radius: number): [number, number] => {
  const angle = ((FROM + SWEEP * place) * Math.PI) / 180;
  return [50 + radius * Math.cos(angle), 50 + radius * Math.sin(angle)];
};

function arc(from: number, to: number, radius: number): string {
  const [x1, y1] = point(from, radius);
  const [x2, y2] = point(to, radius);
  return `M${x1} ${y1}A${radius} ${radius} 0 ${(to - from) * SWEEP > 180 ? 1 : 0} 1 ${x2} ${y2}`;
}

const STEPS = 48;

/** A depth from 1 to 64 on a logarithmic scale, by dragging, clicking or arrow keys. */
export function Dial({ value, label, onChange }: { value: number; label: string; onChange: (depth: number) => void }) {
  const place = depthPlace(value);
  const set = (depth: number) => {
    const next = Math.min(64, Math.max(1, Math.round(depth)));
    if (next !== value) onChange(next);
  };
  const follow = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const angle = (Math.atan2(event.clientY - box.top - box.height / 2, event.clientX - box.left - box.width / 2) * 180) / Math.PI;
    const turned = (angle - FROM + 720) % 360;
    // The open part at the bottom belongs to the nearer end.
    set(depthAt(turned > SWEEP + (360 - SWEEP) / 2 ? 0 : turned / SWEEP));
  };
  const keys: Record<string, number> = {
    ArrowUp: value + 1,
    ArrowRight: value + 1,
    ArrowDown: value - 1,
    ArrowLeft: value - 1,
    PageUp: value * 2,
    PageDown: value / 2,
    Home: 1,
    End: 64,
  };
  return (
    <div
      class="dial"
      role="slider"
      tabIndex={0}
      aria-label={label}
      aria-valuemin={1}
      aria-valuemax={64}
      aria-valuenow={value}
      aria-valuetext={`${value} ${value === 1 ? 'recurrence' : 'recurrences'}`}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        follow(event);
      }}
      onPointerMove={(event) => {
        if (event.currentTarget.hasPointerCapture(event.pointerId)) follow(event);
      }}
      onKeyDown={(event) => {
        const next = keys[event.key];
        if (next === undefined) return;
        event.preventDefault();
        set(next);
      }}
    >
      <svg viewBox="0 0 100 100" aria-hidden="true">
        <path class="dial-track" d={arc(0, 1, 41)} />
        {Array.from({ length: STEPS }, (_, i) => {
          const [from, to] = [i / STEPS, Math.min(place, (i + 1.15) / STEPS)];
          return from < place ? (
            <path key={i} class="dial-lit" d={arc(from, to, 41)} stroke={depthColor(64 ** ((i + 0.5) / STEPS))} />
          ) : null;
        })}
        {MARKS.map((mark) => {
          const [x, y] = point(depthPlace(mark), 30.5);
          return (
            <text key={mark} x={x} y={y} class="dial-mark">
              {mark}
            </text>
          );
        })}
        <circle cx={point(place, 41)[0]} cy={point(place, 41)[1]} r="5.2" class="dial-knob" stroke={depthColor(value)} />
        <text x="50" y="52" class="dial-value">
          {value}
        </text>
        <text x="50" y="66" class="dial-unit">
          {value === 1 ? 'loop' : 'loops'}
        </text>
      </svg>
    </div>
  );
}
