import type { Tensor } from '../tensor.js';
import { type GpuDispatch, kernel, perGroup, perThread, rowRanges } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';

const width = 256;
// Values and indices of this many candidates take 8 KiB of the 16 KiB that every adapter has for a workgroup.
const maxSelected = 1024;

// The place of a value in the order of topK as two whole numbers, larger first: its rank, then the complement of its index. No two are equal.

/**
 * One workgroup for a row. A radix selection, 8 bits a pass, finds the k-th place: passes 0 to 3 over the rank, 4 to 7, where equal values
 * need them, over the index. Then the k selected are gathered and sorted (bitonic, padded to P).
 */
const select = (P: number) =>
  kernel('topK.select', [P], () => ({
    params: { rows: 'u32', n: 'u32', k: 'u32' },
    read: { x: 'u32' },
    write: { values: 'u32', indices: 'i32' },
    workgroup: width,
    uses: ['rank'],
    outside: `var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> candidates: array<vec2u, ${P}>;
var<workgroup> found: atomic<u32>;
var<workgroup> state: vec4u;

fn place_of(b: u32, i: u32) -> vec2u { return vec2u(rank_of(b), ~i); }

/** Whether the bits above those of this pass equal the prefix. */
fn under(place: vec2u, prefix: vec2u, pass_number: u32) -> bool {
  if (pass_number == 0u) { return true; }
  if (pass_number < 4u) { return (place.x >> (32u - 8u * pass_number)) == (prefix.x >> (32u - 8u * pass_number)); }
  if (place.x != prefix.x) { return false; }
  return pass_number == 4u || (place.y >> (64u - 8u * pass_number)) == (prefix.y >> (64u - 8u * pass_number));
}

fn digit_of(place: vec2u, pass_number: u32) -> u32 {
  return (select(place.y, place.x, pass_number < 4u) >> (24u - 8u * (pass_number & 3u))) & 255u;
}`,
    body: `if (group >= p.rows) { return; }
  let start = group * p.n;
  var prefix = vec2u(0u);
  var wanted = p.k;
  for (var pass_number = 0u; pass_number < 8u; pass_number++) {
    atomicStore(&counts[lane], 0u);
    workgroupBarrier();
    for (var i = lane; i < p.n; i += ${width}u) {
      let place = place_of(x[start + i], i);
      if (under(place, prefix, pass_number)) { atomicAdd(&counts[digit_of(place, pass_number)], 1u); }
    }
    workgroupBarrier();
    if (lane == 0u) {
      var left = wanted;
      var digit = 255u;
      loop {
        let here = atomicLoad(&counts[digit]);
        if (here >= left || digit == 0u) {
          state = vec4u(digit, left, select(0u, 1u, here == left), 0u);
          break;
        }
        left -= here;
        digit--;
      }
    }
    let chosen = workgroupUniformLoad(&state);
    wanted = chosen.y;
    if (pass_number < 4u) { prefix.x |= chosen.x << (24u - 8u * pass_number); } else { prefix.y |= chosen.x << (56u - 8u * pass_number); }
    // All below this prefix are wanted: it is the smallest place of the selection.
    if (chosen.z == 1u) { break; }
  }
  for (var i = lane; i < ${P}u; i += ${width}u) { candidates[i] = vec2u(0u); }
  if (lane == 0u) { atomicStore(&found, 0u); }
  workgroupBarrier();
  for (var i = lane; i < p.n; i += ${width}u) {
    let place = place_of(x[start + i], i);
    if (place.x > prefix.x || (place.x == prefix.x && place.y >= prefix.y)) {
      let at = atomicAdd(&found, 1u);
      if (at < ${P}u) { candidates[at] = place; }
    }
  }
  for (var size = 2u; size <= ${P}u; size <<= 1u) {
    for (var step = size >> 1u; step > 0u; step >>= 1u) {
      workgroupBarrier();
      for (var i = lane; i < ${P}u; i += ${width}u) {
        let other = i ^ step;
        if (other > i) {
          let a = candidates[i];
          let b = candidates[other];
          let a_first = a.x > b.x || (a.x == b.x && a.y > b.y);
          if (a_first == ((i & size) != 0u)) {
            candidates[i] = b;
            candidates[other] = a;
          }
        }
      }
    }
  }
  workgroupBarrier();
  for (var i = lane; i < p.k; i += ${width}u) {
    let index_in_row = ~candidates[i].y;
    values[group * p.k + i] = x[start + index_in_row];
    indices[group * p.k + i] = i32(index_in_row);
  }`,
  }));

/** For large k: a thread counts the values that stand before its own. n^2 comparisons, any k. */
const count = () =>
  kernel('topK.count', [], () => ({
    params: { rows: 'u32', n: 'u32', k: 'u32' },
    read: { x: 'u32' },
    write: { values: 'u32', indices: 'i32' },
    uses: ['rank'],
    body: `if (index >= p.rows * p.n) { return; }
  let start = (index / p.n) * p.n;
  let own = index - start;
  let bits = x[index];
  let rank = rank_of(bits);
  var before = 0u;
  for (var i = 0u; i < p.n && before < p.k; i++) {
    let other = rank_of(x[start + i]);
    before += select(0u, 1u, other > rank || (other == rank && i < own));
  }
  if (before < p.k) {
    let at = (index / p.n) * p.k + before;
    values[at] = bits;
    indices[at] = i32(own);
  }`,
  }));

export function topKWgsl(
  inputs: readonly Tensor[],
  { k }: { readonly k: number },
  outputs: readonly Tensor[],
  traits: GpuTraits,
): GpuDispatch[] {
  const [x] = inputs as [Tensor];
  const [values, indices] = outputs as [Tensor, Tensor];
  if (values.size === 0) return [];
  const n = x.shape[x.shape.length - 1]!;
  return rowRanges('topK', x.size / n, [n * 4, k * 4], traits).map(({ rows, part }) => {
    const call = { bind: [part(x, n * 4), part(values, k * 4), part(indices, k * 4)], params: { rows, n, k } };
    if (k > maxSelected) return perThread(count(), rows * n, traits, call);
    return perGroup(select(2 ** Math.ceil(Math.log2(k))), rows, traits, call);
  });
}
