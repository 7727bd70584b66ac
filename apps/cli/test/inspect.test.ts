import { parseRecurrentConfig } from '@unroll/recurrent';
import { describe, expect, it } from 'vitest';
import { costAt, partSizes, tensorRows } from '../src/inspect/cost.js';
import { unroll } from './support.js';

// The published model's configuration, with the figures of its paper and public code.
const huginn = parseRecurrentConfig({
  n_embd: 5280,
  n_heads: 55,
  intermediate_size: 17920,
  vocab_size: 65536,
  block_size: 4096,
  n_layers_in_prelude: 2,
  n_layers_in_recurrent_block: 4,
  n_layers_in_coda: 2,
  mean_recurrence: 32,
  norm_eps: 1e-6,
  tie_embeddings: true,
  qk_bias: true,
});

describe('costs', () => {
  it('counts the parameters of huginn-0125', () => {
    const parts = partSizes(huginn);
    expect(parts.total).toBe(3_564_976_800);
    expect(parts.embedding).toBe(346_030_080);
    expect(parts.adapter + parts.core).toBe(1_637_349_120);
  });

  it.each([
    [1, 8, 3.56, 7.1, 165],
    [8, 36, 15.03, 30.1, 742.5],
    [32, 132, 54.32, 108.6, 2722.5],
    [64, 260, 106.72, 213.4, 5362.5],
  ])('depth %i: %i layer calls, %f G materialised, %f GFLOP, %f KiB of bf16 keys and values', (depth, calls, billions, gflop, kib) => {
    const cost = costAt(huginn, depth);
    expect(cost.layerCalls).toBe(calls);
    expect(cost.materialised / 1e9).toBeCloseTo(billions, 2);
    expect(cost.flops / 1e9).toBeCloseTo(gflop, 1);
    expect(cost.kvBytes / 2 / 1024).toBe(kib);
  });

  it('counts an untied embedding table as a look-up, not as work', () => {
    const untied = { ...huginn, tiedHead: false };
    expect(partSizes(untied).total).toBe(3_564_976_800 + 346_030_080);
    expect(costAt(untied, 8).flops).toBe(costAt(huginn, 8).flops);
  });

  it('names tensors that do not fit and those that are left out', () => {
    const entries = new Map([
      ['freqs_cis', { dtype: 'F32', shape: [1] }],
      ['lm_head.weight', { dtype: 'F32', shape: [65536, 5280] }],
      ['extra.weight', { dtype: 'F32', shape: [2] }],
      ['transformer.ln_f.weight', { dtype: 'BF16', shape: [7] }],
    ]);
    const rows = new Map(tensorRows(huginn, entries).map((row) => [row.name, row]));
    expect(rows.get('freqs_cis')).toMatchObject({ problem: null, unused: expect.stringContaining('not loaded') });
    expect(rows.get('lm_head.weight')).toMatchObject({ problem: null, unused: expect.stringContaining('not loaded') });
    expect(rows.get('extra.weight')!.problem).toBe('not part of the model');
    expect(rows.get('transformer.ln_f.weight')!.problem).toBe('must be [5280]');
    expect(rows.get('transformer.wte.weight')!.problem).toBe('missing from the file');
  });
});

describe('inspect', () => {
  it('shows the embedded model', async () => {
    const { code, out, err } = await unroll(['inspect', '--depths', '1,8']);
    expect([code, err]).toEqual([0, '']);
    expect(out).toMatchSnapshot();
  });

  it('gives the same as one JSON object', async () => {
    const { out } = await unroll(['inspect', '--model', 'adder', '--depths', '8', '--json']);
    const report = JSON.parse(out) as {
      parameters: Record<string, number>;
      byDepth: Record<string, number>[];
      tensors: { name: string }[];
    };
    expect(out.trimEnd().split('\n')).toHaveLength(1);
    expect(report.parameters).toEqual({
      embedding: 1024,
      prelude: 50560,
      adapter: 8192,
      core: 101120,
      coda: 50560,
      norm: 64,
      head: 0,
      total: 211520,
    });
    expect(report.byDepth).toEqual([
      { depth: 8, layerCalls: 18, materialised: 976_704, flops: 1_953_408, flopsFullContext: 2_248_320, kvBytes: 9216 },
    ]);
    expect(report.tensors).toHaveLength(40);
  });
});
