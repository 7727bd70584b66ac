import { TokenizerFormatError } from './errors';
import type { Field } from './fields';

/** Ids of the tokens with a role; absent where the tokenizer has none. */
export interface SpecialTokens {
  readonly bos?: number;
  readonly eos?: number;
  readonly pad?: number;
  readonly unk?: number;
}

const ROLES = ['bos', 'eos', 'pad', 'unk'] as const;

function content(field: Field): string {
  return typeof field.value === 'string' ? field.value : field.get('content').string();
}

export interface SpecialInfo {
  readonly tokens: SpecialTokens;
  /** The texts of the named tokens, for chat templates: `bos_token`, `eos_token`, … */
  readonly names: Readonly<Record<string, string>>;
  /** Every id that tokenizer_config.json names as special. */
  readonly ids: readonly number[];
  readonly stop: readonly number[];
}

/** @throws TokenizerFormatError for a special token that the vocabulary lacks */
export function parseSpecialTokens(
  idOf: (token: string) => number | undefined,
  config: Field | undefined,
  generation: Field | undefined,
  modelUnknown: number | undefined,
): SpecialInfo {
  const tokens: { -readonly [K in keyof SpecialTokens]: number } = {};
  const names: Record<string, string> = {};
  const ids: number[] = [];
  const lookUp = (field: Field): number => {
    const id = idOf(content(field));
    if (id === undefined)
      throw new TokenizerFormatError(field.path, `${JSON.stringify(content(field))} is not in the vocabulary of tokenizer.json`);
    return id;
  };
  for (const name of ['bos', 'eos', 'pad', 'unk', 'cls', 'sep', 'mask'] as const) {
    const field = config?.optional(`${name}_token`);
    if (!field) continue;
    const id = lookUp(field);
    names[`${name}_token`] = content(field);
    ids.push(id);
    if ((ROLES as readonly string[]).includes(name)) tokens[name as keyof SpecialTokens] = id;
  }
  for (const field of config?.optional('additional_special_tokens')?.items() ?? []) ids.push(lookUp(field));
  const stop = new Set<number>();
  const endOf = generation?.optional('eos_token_id');
  if (endOf) for (const field of Array.isArray(endOf.value) ? endOf.items() : [endOf]) stop.add(field.count());
  if (tokens.eos !== undefined) stop.add(tokens.eos);
  for (const role of ['bos', 'eos', 'pad'] as const) {
    const given = generation?.optional(`${role}_token_id`);
    if (tokens[role] === undefined && given && !Array.isArray(given.value)) tokens[role] = given.count();
  }
  if (tokens.unk === undefined && modelUnknown !== undefined) tokens.unk = modelUnknown;
  return { tokens, names, ids, stop: [...stop] };
}
