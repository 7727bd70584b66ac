// The machine's limits as WebAssembly can reach them, in hand-written WebAssembly text: a micro-kernel of 4 rows and 8 columns on
// operands that stay in the first cache, and a sum over memory that does not fit any.
import wabtModule from 'wabt';

const ROWS = 4;
const UNROLL = 4;
/** Steps along k of one pass over the operands: 4 KiB of rows and 8 KiB of columns. */
export const STEPS = 256;

const mulAdd = (x, y, c) => `(f32x4.add (f32x4.mul ${x} ${y}) ${c})`;
const products = {
  'f32-plain': mulAdd,
  'f32-relaxed': (x, y, c) => `(f32x4.relaxed_madd ${x} ${y} ${c})`,
  'int16-dot': (x, y, c) => `(i32x4.add (i32x4.dot_i16x8_s ${x} ${y}) ${c})`,
  'int8-relaxed-dot': (x, y, c) => `(i32x4.relaxed_dot_i8x16_i7x16_add_s ${x} ${y} ${c})`,
};
/** Multiplications and additions of a lane in a step. */
const opsPerLane = { 'f32-plain': 2, 'f32-relaxed': 2, 'int16-dot': 4, 'int8-relaxed-dot': 8 };

export const microKernels = Object.keys(products);
export const opsPerPass = (name) => STEPS * ROWS * 8 * opsPerLane[name];

function microKernelText(product) {
  const sums = Array.from({ length: ROWS * 2 }, (_, i) => `$c${i}`);
  const step = (u) => {
    const columns = [0, 1].map((j) => `(local.set $y${j} (v128.load offset=${32 * u + 16 * j} (local.get $pb)))`);
    const rows = Array.from({ length: ROWS }, (_, r) => {
      const x = `(local.set $x (v128.load32_splat offset=${16 * u + 4 * r} (local.get $pa)))`;
      const both = [0, 1].map(
        (j) => `(local.set $c${2 * r + j} ${product('(local.get $x)', `(local.get $y${j})`, `(local.get $c${2 * r + j})`)})`,
      );
      return [x, ...both].join(' ');
    });
    return [...columns, ...rows].join('\n');
  };
  const total = sums.slice(1).reduce((all, one) => `(v128.xor ${all} (local.get ${one}))`, `(local.get ${sums[0]})`);
  return `(module (import "env" "memory" (memory 1))
    (func (export "run") (param $a i32) (param $b i32) (param $times i32) (result i32)
      (local $pa i32) (local $pb i32) (local $n i32) (local $x v128) (local $y0 v128) (local $y1 v128)
      ${sums.map((name) => `(local ${name} v128)`).join(' ')}
      (loop $again
        (local.set $pa (local.get $a)) (local.set $pb (local.get $b)) (local.set $n (i32.const ${STEPS / UNROLL}))
        (loop $k
          ${Array.from({ length: UNROLL }, (_, u) => step(u)).join('\n')}
          (local.set $pa (i32.add (local.get $pa) (i32.const ${16 * UNROLL})))
          (local.set $pb (i32.add (local.get $pb) (i32.const ${32 * UNROLL})))
          (br_if $k (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
      (i32x4.extract_lane 0 ${total})))`;
}

const streamText = `(module (import "env" "memory" (memory 1))
  (func (export "run") (param $at i32) (param $end i32) (result i32)
    ${Array.from({ length: 8 }, (_, i) => `(local $c${i} v128)`).join(' ')}
    (loop $more
      ${Array.from({ length: 8 }, (_, i) => `(local.set $c${i} (i32x4.add (local.get $c${i}) (v128.load offset=${16 * i} (local.get $at))))`).join('\n')}
      (local.set $at (i32.add (local.get $at) (i32.const 128)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end))))
    (i32x4.extract_lane 0 ${[1, 2, 3, 4, 5, 6, 7].reduce((all, i) => `(v128.xor ${all} (local.get $c${i}))`, '(local.get $c0)')})))`;

/**
 * A kernel's bytes: one of `microKernels`, or `stream`.
 *
 * @param {string} name
 * @returns {Promise<Uint8Array>}
 */
export async function kernelBytes(name) {
  const wabt = await wabtModule();
  const text = name === 'stream' ? streamText : microKernelText(products[name]);
  const module = wabt.parseWat(`${name}.wat`, text, { simd: true, relaxed_simd: true });
  try {
    return module.toBinary({}).buffer;
  } finally {
    module.destroy();
  }
}
