import {
  add,
  affine,
  atan,
  type Device,
  div,
  matmul,
  maximum,
  mean,
  OptionError,
  refuseUnknownOptions,
  reshape,
  type Shape,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  tidy,
  transpose,
} from '@unroll/tensor';

/** What one step knows besides the gradient. */
export interface StepInfo {
  /** Counted from 1. */
  readonly step: number;
  readonly learningRate: number;
  /** learningRate / its peak: what the reference scales its weight decay by. */
  readonly relativeRate: number;
}

/** How one parameter moves: made by `adamw`, `ellisAdam` or `muon`. Slots are tensors of the parameter's shape that start at zero. */
export interface UpdateRule {
  readonly name: string;
  readonly slots: readonly string[];
  /** The new values of parameter and slots. Called inside `tidy`. */
  update(
    param: Tensor,
    grad: Tensor,
    slots: Readonly<Record<string, Tensor>>,
    info: StepInfo,
  ): { param: Tensor; slots: Record<string, Tensor> };
  /** Throws OptionError for a parameter that the rule cannot move. */
  check?(path: string, shape: Shape): void;
}

// Keeps 0 / 0 away where a gradient has been 0 from the start; far below any moment that matters.
const tiny = 1e-30;

/** a keep + b (1 - keep) */
const blend = (a: Tensor, b: Tensor, keep: number) => add(affine(a, { scale: keep }), affine(b, { scale: 1 - keep }));

function checkFraction(who: string, name: string, value: number): void {
  if (!(value >= 0 && value < 1)) throw new OptionError(`${who}: ${name} must be from 0 to below 1; got ${value}`);
}

function checkPositive(who: string, name: string, value: number): void {
  if (!(value >= 0 && Number.isFinite(value))) throw new OptionError(`${who}: ${name} must be a number from 0; got ${value}`);
}

export interface AdamWOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  /** Per unit of learning rate, decoupled. */
  readonly weightDecay?: number;
}

/** AdamW (Loshchilov & Hutter 2019). Defaults: betas 0.9 and 0.95, eps 1e-8, no decay. */
export function adamw(options: AdamWOptions = {}): UpdateRule {
  refuseUnknownOptions('adamw', options, ['beta1', 'beta2', 'eps', 'weightDecay']);
  const { beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weightDecay = 0 } = options;
  checkFraction('adamw', 'beta1', beta1);
  checkFraction('adamw', 'beta2', beta2);
  checkPositive('adamw', 'eps', eps);
  checkPositive('adamw', 'weightDecay', weightDecay);
  return {
    name: 'adamw',
    slots: ['m', 'v'],
    update(param, grad, slots, { step, learningRate }) {
      const m = blend(slots.m!, grad, beta1);
      const v = blend(slots.v!, square(grad), beta2);
      const spread = affine(sqrt(affine(v, { scale: 1 / (1 - beta2 ** step) })), { shift: eps });
      const move = affine(div(m, spread), { scale: learningRate / (1 - beta1 ** step) });
      return { param: sub(affine(param, { scale: 1 - learningRate * weightDecay }), move), slots: { m, v } };
    },
  };
}

export interface EllisAdamOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  /** Each step multiplies the weights by 1 - relativeRate * weightDecay. */
  readonly weightDecay?: number;
}

/**
 * The optimiser that Huginn was trained with (`ELLISAdam` of its repository): direction atan2(m, sqrt(v / (1 - beta2^t))), which needs no
 * eps; step lr / (1 - beta1^t) / max(1, RMS(g / sqrt(v))), which clips updates; moments that start as the first gradient. Defaults:
 * betas 0.9 and 0.95, weight decay 4e-5.
 */
export function ellisAdam(options: EllisAdamOptions = {}): UpdateRule {
  refuseUnknownOptions('ellisAdam', options, ['beta1', 'beta2', 'weightDecay']);
  const { beta1 = 0.9, beta2 = 0.95, weightDecay = 4e-5 } = options;
  checkFraction('ellisAdam', 'beta1', beta1);
  checkFraction('ellisAdam', 'beta2', beta2);
  checkPositive('ellisAdam', 'weightDecay', weightDecay);
  return {
    name: 'ellisAdam',
    slots: ['m', 'v'],
    update(param, grad, slots, { step, learningRate, relativeRate }) {
      const squares = square(grad);
      const m = step === 1 ? grad : blend(slots.m!, grad, beta1);
      const v = step === 1 ? squares : blend(slots.v!, squares, beta2);
      const root = affine(sqrt(v), { shift: tiny });
      const clip = maximum(sqrt(mean(square(div(grad, root)))), param.device.tensor([1], []));
      const direction = atan(div(m, affine(root, { scale: 1 / Math.sqrt(1 - beta2 ** step) })));
      const move = affine(div(direction, clip), { scale: learningRate / (1 - beta1 ** step) });
      return { param: sub(affine(param, { scale: 1 - relativeRate * weightDecay }), move), slots: { m, v } };
    },
  };
}

export interface MuonOptions {
  readonly momentum?: number;
  /** Per unit of learning rate, decoupled. */
  readonly weightDecay?: number;
  /** Newton-Schulz iterations. */
  readonly iterations?: number;
}

/** x (M, N) with its singular values pushed to about 1: the quintic Newton-Schulz iteration of Muon (Jordan et al. 2024). */
export function orthogonalize(x: Tensor, iterations = 5): Tensor {
  const [a, b, c] = [3.4445, -4.775, 2.0315] as const;
  const tall = x.shape[0]! > x.shape[1]!;
  return tidy(x.device, () => {
    let y: Tensor = tall ? transpose(x) : x;
    y = div(y, affine(sqrt(sum(square(y))), { shift: 1e-7 }));
    for (let i = 0; i < iterations; i++) {
      const s = matmul(y, y, { transposeB: true });
      y = add(affine(y, { scale: a }), matmul(add(affine(s, { scale: b }), affine(matmul(s, s), { scale: c })), y));
    }
    return tall ? transpose(y) : y;
  });
}

/** Muon, for matrices: orthogonalised Nesterov momentum, scaled by sqrt(max(1, rows / columns)). Defaults: momentum 0.95, no decay, 5 iterations. */
export function muon(options: MuonOptions = {}): UpdateRule {
  refuseUnknownOptions('muon', options, ['momentum', 'weightDecay', 'iterations']);
  const { momentum = 0.95, weightDecay = 0, iterations = 5 } = options;
  checkFraction('muon', 'momentum', momentum);
  checkPositive('muon', 'weightDecay', weightDecay);
  if (!Number.isInteger(iterations) || iterations < 1)
    throw new OptionError(`muon: iterations must be a whole number from 1; got ${iterations}`);
  return {
    name: 'muon',
    slots: ['m'],
    check(path, shape) {
      if (shape.length !== 2) throw new OptionError(`muon: moves matrices; ${path} is [${shape}]. Give it another rule`);
    },
    update(param, grad, slots, { learningRate }) {
      const m = blend(slots.m!, grad, momentum);
      const [rows, columns] = param.shape as [number, number];
      const direction = orthogonalize(reshape(blend(grad, m, 1 - momentum), [rows, columns]), iterations);
      const move = affine(direction, { scale: learningRate * Math.sqrt(Math.max(1, rows / columns)) });
      return { param: sub(affine(param, { scale: 1 - learningRate * weightDecay }), move), slots: { m } };
    },
  };
}

/** A slot's first values. */
export function emptySlot(device: Device, shape: Shape): Tensor {
  return device.zeros(shape, { memory: 'weights' });
}
