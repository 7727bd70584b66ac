import { access, constants, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TensorToWrite, writeSafetensors } from '@unroll/checkpoint';
import { fileSink } from '@unroll/checkpoint/node';
import { CommandError } from '../errors.js';
import type { Fixture } from './fixture.js';
import type { Actual } from './generations.js';
import type { ActualTensor, Loss } from './tensors.js';

function tensorToWrite({ name, shape, values }: ActualTensor): TensorToWrite {
  return {
    name,
    shape,
    dtype: values instanceof Int32Array ? 'I32' : 'F32',
    bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  };
}

/** `meta` of actual.json: the prompt that was used, and the losses at the paths of expected.json. */
function metaOf(fixture: Fixture, losses: readonly Loss[]): Record<string, unknown> {
  const loss: Record<string, number> = {};
  const meta: Record<string, unknown> = {};
  for (const { path, value } of losses) {
    if (path.startsWith('loss.')) loss[path.slice('loss.'.length)] = value;
    else meta[path] = value;
  }
  return {
    ...(Object.keys(loss).length > 0 ? { loss } : {}),
    ...meta,
    ...(fixture.meta.prompt === undefined ? {} : { prompt: fixture.meta.prompt }),
  };
}

/** The fields that expected.json has of each run, as we computed them. */
function generationsOf(fixture: Fixture, actual: ReadonlyMap<string, Actual>): Record<string, unknown> {
  const entries = [...actual].map(([name, values]) => {
    const record = fixture.generations.get(name)!;
    const fields = Object.keys(record).filter((field) => values[field] !== undefined);
    return [name, { args: record.args, ...Object.fromEntries(fields.map((field) => [field, values[field]])) }];
  });
  return Object.fromEntries(entries);
}

export interface ParityOutput {
  readonly tensors: readonly ActualTensor[];
  readonly losses: readonly Loss[];
  readonly generations: ReadonlyMap<string, Actual>;
}

/** Makes the folder, so that one that cannot be is noticed before the work. Throws CommandError. */
export async function makeOut(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (error) {
    throw new CommandError(`--out "${folder}" cannot be written: ${(error as Error).message}`);
  }
}

/** Writes `actual.safetensors` and `actual.json` into a folder, which is made if need be. JSON has null for NaN. Throws CommandError. */
export async function writeActual(folder: string, fixture: Fixture, output: ParityOutput): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    await writeSafetensors(await fileSink(join(folder, 'actual.safetensors')), output.tensors.map(tensorToWrite));
    const json = { meta: metaOf(fixture, output.losses), generations: generationsOf(fixture, output.generations) };
    await writeFile(join(folder, 'actual.json'), `${JSON.stringify(json, null, 1)}\n`);
  } catch (error) {
    throw new CommandError(`--out "${folder}" cannot be written: ${(error as Error).message}`);
  }
}
