import { useEffect, useRef } from 'preact/hooks';
import { onTheme } from './on-theme.js';

export interface Paint {
  readonly context: CanvasRenderingContext2D;
  readonly width: number;
  readonly height: number;
  /** A custom property of the page's theme. */
  readonly color: (name: string) => string;
}

/** A canvas as wide as its place and `height` high, painted anew when `paint`, its size or the theme changes. */
export function Canvas(props: {
  label: string;
  height: number;
  paint: (surface: Paint) => void;
  onPoint?: (x: number, y: number, width: number) => void;
  onLeave?: () => void;
  class?: string;
}) {
  const ref = useRef<HTMLCanvasElement>(null);
  const { paint, height } = props;
  useEffect(() => {
    const canvas = ref.current!;
    const draw = () => {
      const width = canvas.clientWidth;
      if (width === 0) return;
      const scale = window.devicePixelRatio || 1;
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      const context = canvas.getContext('2d')!;
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.clearRect(0, 0, width, height);
      const style = getComputedStyle(canvas);
      paint({ context, width, height, color: (name) => style.getPropertyValue(name).trim() });
    };
    draw();
    const sizes = new ResizeObserver(draw);
    sizes.observe(canvas);
    const endTheme = onTheme(draw);
    return () => {
      sizes.disconnect();
      endTheme();
    };
  }, [paint, height]);
  return (
    <canvas
      ref={ref}
      class={`canvas ${props.class ?? ''}`}
      style={{ height: `${height}px` }}
      role="img"
      aria-label={props.label}
      onPointerMove={(event) => {
        const box = event.currentTarget.getBoundingClientRect();
        props.onPoint?.(event.clientX - box.left, event.clientY - box.top, box.width);
      }}
      onPointerLeave={() => props.onLeave?.()}
    />
  );
}
