import { existsSync, readFileSync } from 'node:fs';
import { bytesSource, openSafetensors } from '@unroll/checkpoint';
import { initParams, loadRecurrentModel, parseRecurrentConfig, RecurrentModel } from '@unroll/recurrent';
import type { Device } from '@unroll/tensor';
import { type GeneratedToken, type GenerateOptions, generate } from '../src/index.js';

const fixtures = new URL('../../../../shared/fixtures/', import.meta.url);
export const fixtureNames = ['huginn-small', 'huginn-steady', 'adder'] as const;
export const haveFixtures = existsSync(fixtures);

export interface ExpectedGeneration {
  readonly args: Record<string, number | string | boolean>;
  readonly tokens: readonly number[];
  readonly steps?: readonly number[];
  readonly exit_values_first_token?: readonly (number | null)[];
  readonly cache_steps?: number;
  readonly cache_bytes?: number;
  readonly cache_tokens?: number;
  readonly num_core_forward_passes?: number;
  readonly recurrence_per_position?: readonly number[];
}

export function readExpected(name: string): { prompt: number[]; generations: Record<string, ExpectedGeneration> } {
  const { meta, generations } = JSON.parse(readFileSync(new URL(`${name}/expected.json`, fixtures), 'utf8'));
  return { prompt: meta.prompt, generations };
}

export async function loadFixture(name: string, device: Device): Promise<RecurrentModel> {
  const file = await openSafetensors(bytesSource(readFileSync(new URL(`${name}/model.safetensors`, fixtures)), name));
  const config = JSON.parse(readFileSync(new URL(`${name}/config.json`, fixtures), 'utf8'));
  return loadRecurrentModel({ device, config, weights: { name, entries: file.entries, read: (tensor) => file.read(tensor) } });
}

/** A small untrained model, as the paper starts one. */
export function tinyModel(device: Device, seed = 1, overrides: Record<string, unknown> = {}): RecurrentModel {
  const config = parseRecurrentConfig({
    n_embd: 32,
    n_heads: 2,
    intermediate_size: 48,
    vocab_size: 24,
    block_size: 64,
    n_layers_in_prelude: 1,
    n_layers_in_recurrent_block: 2,
    n_layers_in_coda: 1,
    mean_recurrence: 6,
    norm_eps: 1e-6,
    tie_embeddings: true,
    qk_bias: true,
    ...overrides,
  });
  return new RecurrentModel(device, config, initParams(device, config, { seed }));
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

export const tokensOf = (items: readonly Pick<GeneratedToken, 'token'>[]): number[] => items.map(({ token }) => token);
export const run = (options: GenerateOptions): Promise<GeneratedToken[]> => all(generate(options));
