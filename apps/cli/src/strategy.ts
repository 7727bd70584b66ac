import { parseKVPolicy } from '@unroll/nn';
import {
  type CommonOptions,
  type ExitRule,
  exitRule,
  type FreezeRule,
  freezeRules,
  type RunReport,
  type SpeculativeOptions,
  type WarmStart,
  type WavefrontOptions,
} from '@unroll/sampler';
import { didYouMean, type Flags, parseNumber, readText, readWhole } from './args.js';
import { UsageError } from './errors.js';
import { counted, grouped } from './style.js';

/** Leaves out what is undefined. */
const given = <T extends object>(options: { readonly [K in keyof T]: T[K] | undefined }): T =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;

/** The exit flags as a rule. Throws UsageError, OptionError for an unknown rule. */
export function readExit(flags: Flags): ExitRule | undefined {
  const text = readText(flags, 'exit');
  const minRecurrences = readWhole(flags, 'min-recurrences', 1);
  const every = readWhole(flags, 'exit-every', 1);
  if (text === undefined) {
    const alone = minRecurrences !== undefined ? '--min-recurrences' : every !== undefined ? '--exit-every' : undefined;
    if (alone !== undefined) throw new UsageError(`${alone} says when an exit rule is asked; give --exit RULE with it`);
    return undefined;
  }
  const colon = text.indexOf(':');
  const name = colon < 0 ? text : text.slice(0, colon);
  const threshold = colon < 0 ? undefined : parseNumber('exit', text.slice(colon + 1), 'RULE or RULE:THRESHOLD with a number');
  return exitRule(name, given({ threshold, minRecurrences, every }));
}

const WARM_STARTS: readonly WarmStart[] = ['norm-state', 'state'];

function readWarmStart(flags: Flags): WarmStart | undefined {
  const text = readText(flags, 'warm-start');
  if (text === undefined) return undefined;
  const kind = WARM_STARTS.find((one) => one === text);
  if (kind === undefined) throw new UsageError(`--warm-start must be ${WARM_STARTS.join(' or ')}; got "${text}"`);
  return kind;
}

function readSpeculative(flags: Flags): SpeculativeOptions | undefined {
  const text = readText(flags, 'speculative');
  if (text === undefined) return undefined;
  const what = 'D,L or D,L,THRESHOLD in numbers, such as 2,4';
  const parts = text.split(',');
  const [draftRecurrences, lookahead, threshold] = parts.map((part) => parseNumber('speculative', part, what));
  if (lookahead === undefined || parts.length > 3) throw new UsageError(`--speculative must be ${what}; got "${text}"`);
  return given<SpeculativeOptions>({ draftRecurrences: draftRecurrences!, lookahead, threshold });
}

/** Names in `--wavefront`, and the sampler's. */
const WAVEFRONT = {
  headway: 'headway',
  window: 'maxWavefront',
  threshold: 'threshold',
  ema: 'emaEmbeds',
  noise: 'stateNoise',
  rounds: 'maxRounds',
} as const;
const WAVEFRONT_NAMES = [...Object.keys(WAVEFRONT), 'freeze', 'continuous'];

function readWavefront(flags: Flags): WavefrontOptions | undefined {
  const text = readText(flags, 'wavefront');
  if (text === undefined) return undefined;
  const [inner, ...rest] = text.split(',');
  const options: Record<string, number | string | boolean> = {
    innerRecurrences: parseNumber('wavefront', inner!, 'R or R,NAME=VALUE,… with R recurrences a round, such as 4,noise=0'),
  };
  for (const part of rest) {
    const [name = '', value, ...more] = part.split('=');
    if (!WAVEFRONT_NAMES.includes(name) || more.length > 0)
      throw new UsageError(
        `--wavefront: unknown option "${part}"${didYouMean(name, WAVEFRONT_NAMES)}; there are ${WAVEFRONT_NAMES.join(', ')}`,
      );
    if (name === 'continuous') {
      if (value !== undefined) throw new UsageError('--wavefront: continuous takes no value; write it alone');
      options.continuous = true;
    } else if (value === undefined) throw new UsageError(`--wavefront: ${name} needs a value, as in ${name}=VALUE`);
    else if (name === 'freeze') {
      if (!(freezeRules as readonly string[]).includes(value))
        throw new UsageError(`--wavefront: freeze must be one of ${freezeRules.join(', ')}; got "${value}"`);
      options.freeze = value as FreezeRule;
    } else options[WAVEFRONT[name as keyof typeof WAVEFRONT]] = parseNumber(`wavefront ${name}`, value, 'a number');
  }
  return options as WavefrontOptions;
}

/** What a batch can do: the flags of `batchStrategyArgs`. Throws UsageError and OptionError. */
export function batchStrategyOptions(flags: Flags): Pick<CommonOptions, 'exit' | 'warmStart' | 'policy'> {
  const policy = readText(flags, 'kv-policy');
  return given({
    exit: readExit(flags),
    warmStart: readWarmStart(flags),
    policy: policy === undefined ? undefined : parseKVPolicy(policy),
  });
}

/** The flags of `strategyArgs` as options of `generate`; absent flags are absent. Throws UsageError and OptionError. */
export function strategyOptions(flags: Flags): Partial<CommonOptions> {
  return { ...batchStrategyOptions(flags), ...given({ speculative: readSpeculative(flags), wavefront: readWavefront(flags) }) };
}

/** A run's report as one line, without a line end. */
export function reportLine({ newTokens, meanRecurrences, corePasses, speculation, wavefront, cache }: RunReport): string {
  return [
    `${counted(newTokens, 'new token')}, ${meanRecurrences.toFixed(2)} recurrences a token`,
    `${counted(corePasses, 'core pass', 'core passes')}, prefill included`,
    ...(speculation === undefined ? [] : [`${speculation.accepted} of ${counted(speculation.drafted, 'draft')} accepted`]),
    ...(wavefront === undefined ? [] : [counted(wavefront.rounds, 'wavefront round')]),
    `KV ${grouped(cache.logicalBytes)} bytes in ${counted(cache.slots, 'slot')}`,
  ].join('; ');
}
