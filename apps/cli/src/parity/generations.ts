import type { RecurrentModel } from '@unroll/recurrent';
import { type GeneratedToken, generate } from '@unroll/sampler';
import { CommandError } from '../errors.js';
import { type Breather, type Check, compare, EXACT, FORWARD_TOLERANCE, jsonNumbers } from './check.js';
import type { Fixture, GenerationRecord } from './fixture.js';
import { planFor, type StrategyPlan, UnknownArguments } from './strategies.js';

/** Recorded runs have so many new tokens; some strategies of the reference overshoot. */
const NEW_TOKENS = 16;

/** What a run gave, under the fields of `expected.json`. NaN stands for null. */
export type Actual = Readonly<Record<string, number | readonly number[] | undefined>>;

export interface GenerationResults {
  readonly checks: readonly Check[];
  readonly actual: ReadonlyMap<string, Actual>;
}

/** Drafts and windows leave other tokens in the cache than the reference does, so these runs' caches are not compared. */
const comparesCache = ({ kind }: StrategyPlan): boolean => kind !== 'speculative' && kind !== 'wavefront';

/** The fields of a record that are to be compared: all but the arguments and what the plan excludes. */
export function comparedFields(record: GenerationRecord, plan: StrategyPlan | undefined): string[] {
  const cache = plan === undefined ? !isWindowed(record) : comparesCache(plan);
  return Object.keys(record).filter((field) => field !== 'args' && (cache || !field.startsWith('cache_')));
}

const isWindowed = ({ args }: GenerationRecord): boolean => {
  const names = Object.keys((args ?? {}) as object);
  return names.includes('draft_steps') || names.includes('inner_recurrence') || names.includes('freeze_strategy');
};

function promptOf(fixture: Fixture): number[] {
  const prompt = jsonNumbers(fixture.meta.prompt);
  if (prompt === undefined || prompt.length === 0)
    throw new CommandError('expected.json: meta.prompt must be a list of token ids; the generations need it');
  return prompt;
}

async function runPlan(
  model: RecurrentModel,
  prompt: readonly number[],
  newTokens: number,
  plan: StrategyPlan,
  io: Breather,
): Promise<Actual> {
  const { kind, ...strategy } = plan;
  const items: GeneratedToken[] = [];
  for await (const item of generate({ model, prompt, maxNewTokens: newTokens, stopTokens: [], temperature: 0, ...strategy })) {
    items.push(item);
    await io.breathe();
  }
  const report = items[items.length - 1]?.report;
  const rounds = report?.wavefront?.rounds;
  return {
    tokens: items.map(({ token }) => token),
    cache_steps: report?.cache.slots,
    cache_bytes: report?.cache.logicalBytes,
    cache_tokens: report?.cache.tokens,
    steps: kind === 'adaptive' ? items.map(({ recurrences }) => recurrences) : undefined,
    exit_values_first_token: items[0]?.exit?.values,
    num_core_forward_passes: rounds === undefined ? undefined : 1 + rounds * (plan.wavefront?.innerRecurrences ?? 1),
    recurrence_per_position: report?.wavefront?.recurrencesPerPosition,
  };
}

/** Cuts what both sides have beyond the new tokens that count: the reference may overshoot, we may not. */
function trimmed(field: string, values: readonly number[], prompt: number, newTokens: number): readonly number[] {
  if (field === 'tokens' || field === 'steps') return values.slice(0, newTokens);
  return field === 'recurrence_per_position' ? values.slice(0, prompt + newTokens) : values;
}

function compareField(
  field: string,
  actual: Actual,
  record: GenerationRecord,
  prompt: number,
  newTokens: number,
  device: string,
): Pick<Check, 'status' | 'maxError' | 'reason'> {
  const expected = jsonNumbers(record[field]);
  if (expected === undefined || !Object.hasOwn(actual, field))
    return { status: 'unsupported', maxError: null, reason: 'not a field of the fixture format' };
  const value = actual[field];
  if (value === undefined) return { status: 'fail', maxError: null, reason: 'this strategy gives no such value' };
  const [a, e] = [typeof value === 'number' ? [value] : value, expected].map((values) => trimmed(field, values, prompt, newTokens));
  return compare(a!, e!, field === 'exit_values_first_token' ? FORWARD_TOLERANCE[device]! : EXACT);
}

/**
 * Where a GPU's run leaves the recorded tokens, and how near the two best tokens were there: rounding may decide between tokens whose
 * gap is small, and nothing else may.
 */
async function explainTokens(
  model: RecurrentModel,
  prompt: readonly number[],
  expected: readonly number[],
  plan: StrategyPlan,
): Promise<string | undefined> {
  const { kind: _, ...strategy } = plan;
  const options = { model, prompt, maxNewTokens: expected.length, stopTokens: [], temperature: 0, alternatives: 2, ...strategy };
  let at = 0;
  for await (const { token, alternatives } of generate(options)) {
    if (token !== expected[at++]) {
      const gap = alternatives![0]!.logprob - (alternatives![1]?.logprob ?? Number.NEGATIVE_INFINITY);
      return `leaves the recorded tokens at new token ${at}, where the top-2 gap is ${gap.toExponential(2)}`;
    }
  }
  return undefined;
}

/** Runs every recorded generation and compares its fields, one check each. */
export async function compareGenerations(
  model: RecurrentModel,
  fixture: Fixture,
  io: Breather,
  onCheck: (check: Check) => void,
): Promise<GenerationResults> {
  const checks: Check[] = [];
  const all = new Map<string, Actual>();
  if (fixture.generations.size === 0) return { checks, actual: all };
  const add = (check: Check): void => {
    checks.push(check);
    onCheck(check);
  };
  for (const [name, record] of fixture.generations) {
    const tokens = jsonNumbers(record.tokens);
    const newTokens = Math.min(NEW_TOKENS, tokens?.length ?? NEW_TOKENS);
    const started = performance.now();
    let plan: StrategyPlan | undefined;
    let prompt: readonly number[] = [];
    let outcome: Actual | Pick<Check, 'status' | 'reason'>;
    try {
      plan = planFor(record);
      prompt = promptOf(fixture);
      outcome = await runPlan(model, prompt, newTokens, plan, io);
      all.set(name, outcome);
    } catch (error) {
      outcome = { status: error instanceof UnknownArguments ? 'unsupported' : 'fail', reason: (error as Error).message };
    }
    const took = performance.now() - started;
    const kind = plan?.kind ?? 'unknown';
    let parting: string | undefined;
    if (model.device.kind === 'webgpu' && plan !== undefined && tokens !== undefined && 'tokens' in outcome) {
      const wanted = tokens.slice(0, newTokens);
      if (compare(outcome.tokens as readonly number[], wanted, EXACT).status === 'fail')
        parting = await explainTokens(model, prompt, wanted, plan);
    }
    comparedFields(record, plan).forEach((field, i) => {
      const ms = i === 0 ? took : 0;
      const base = { name: `${name}.${field}`, kind, ms, exact: field !== 'exit_values_first_token' };
      if ('status' in outcome && typeof outcome.status === 'string')
        add({ ...base, maxError: null, ...(outcome as Pick<Check, 'status' | 'reason'>) });
      else {
        const result = compareField(field, outcome as Actual, record, prompt.length, newTokens, model.device.kind);
        const why = field === 'tokens' && parting !== undefined ? { reason: `${result.reason}; ${parting}` } : {};
        add({ ...base, ...result, ...why });
      }
    });
  }
  return { checks, actual: all };
}
