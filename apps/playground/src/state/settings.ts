export const strategies = ['plain', 'adaptive', 'speculative', 'wavefront'] as const;
export type StrategyName = (typeof strategies)[number];

/** The rules that any model can use. */
export const exitRules = ['latent-diff', 'cosine', 'acceleration', 'entropy-diff', 'kl', 'minp-kl', 'argmax-stability'] as const;
/** `q-exit` reads the exit gate that some models were trained with. */
export const exitNames = [...exitRules, 'q-exit'] as const;
export type ExitName = (typeof exitNames)[number];

/** The rules to choose from. A link may name `q-exit` for a model without a gate: then it is shown, and its run says what is wrong. */
export const exitChoices = (hasExitGate: boolean, chosen: ExitName): readonly ExitName[] =>
  hasExitGate || chosen === 'q-exit' ? exitNames : exitRules;

/** The thresholds that each rule has by itself. */
export const exitThresholds: Readonly<Record<ExitName, number>> = {
  'latent-diff': 0.03,
  cosine: 1e-3,
  acceleration: 0.03,
  'entropy-diff': 1e-3,
  kl: 1e-3,
  'minp-kl': 1e-5,
  'argmax-stability': 5,
  'q-exit': 0.5,
};

export const policies = ['auto', 'full', 'latest', 'always-last', 'skip', 'last-only', 'latest-compress', 'compress-anchor'] as const;
export type PolicyName = (typeof policies)[number];

export const views = ['think', 'chat', 'lab', 'train', 'models', 'device'] as const;
export type ViewName = (typeof views)[number];

export const insides = ['depth', 'settling', 'paths', 'wavefront', 'memory'] as const;
export type InsideName = (typeof insides)[number];

/** What both panes have in common. */
export interface SharedSettings {
  readonly prompt: string;
  readonly seed: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly maxNewTokens: number;
  readonly initScale: number;
}

/** What a pane has of its own. */
export interface RunSettings {
  readonly depth: number;
  readonly strategy: StrategyName;
  readonly exit: ExitName;
  readonly threshold: number;
  readonly policy: PolicyName;
  readonly warm: boolean;
  readonly draft: number;
  readonly lookahead: number;
  readonly inner: number;
}

export const MOST_DEPTH = 64;

export const sharedDefaults: SharedSettings = {
  prompt: '',
  seed: 0,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  maxNewTokens: 0,
  initScale: 1,
};

export const runDefaults = (depth: number): RunSettings => ({
  depth,
  strategy: 'plain',
  exit: 'latent-diff',
  threshold: exitThresholds['latent-diff'],
  policy: 'auto',
  warm: false,
  draft: 2,
  lookahead: 4,
  inner: 2,
});

export interface PageSettings {
  readonly view: ViewName;
  readonly inside: InsideName;
  readonly model: string;
  readonly device: 'auto' | 'cpu' | 'webgpu';
  readonly shared: SharedSettings;
  readonly panes: readonly [RunSettings, RunSettings];
}

export const pageDefaults: PageSettings = {
  view: 'think',
  inside: 'depth',
  model: '',
  device: 'auto',
  shared: sharedDefaults,
  panes: [runDefaults(1), runDefaults(8)],
};

type Rule = (text: string) => unknown;
const number =
  (least: number, most: number, whole = false): Rule =>
  (text) => {
    const value = Number(text);
    return text.trim() !== '' && value >= least && value <= most && (!whole || Number.isInteger(value)) ? value : undefined;
  };
const oneOf =
  (names: readonly string[]): Rule =>
  (text) =>
    names.includes(text) ? text : undefined;
const anything: Rule = (text) => text;
const flag: Rule = (text) => (text === '1' ? true : text === '0' ? false : undefined);

const sharedRules: Record<keyof SharedSettings, Rule> = {
  prompt: anything,
  seed: number(0, Number.MAX_SAFE_INTEGER, true),
  temperature: number(0, 100),
  topK: number(0, 1e6, true),
  topP: number(0.001, 1),
  minP: number(0, 1),
  maxNewTokens: number(0, 65536, true),
  initScale: number(0, 1e6),
};
const runRules: Record<keyof RunSettings, Rule> = {
  depth: number(1, MOST_DEPTH, true),
  strategy: oneOf(strategies),
  exit: oneOf(exitNames),
  threshold: number(0, 1e6),
  policy: oneOf(policies),
  warm: flag,
  draft: number(1, MOST_DEPTH, true),
  lookahead: number(1, 64, true),
  inner: number(1, MOST_DEPTH, true),
};

/** Settings as a query without `?`; what equals the defaults is left out, so that links stay short. */
export function writeSettings(settings: PageSettings): string {
  const query = new URLSearchParams();
  const put = (name: string, value: unknown, base: unknown) => {
    if (value !== base) query.set(name, typeof value === 'boolean' ? (value ? '1' : '0') : String(value));
  };
  for (const name of ['view', 'inside', 'model', 'device'] as const) put(name, settings[name], pageDefaults[name]);
  for (const name of Object.keys(sharedRules) as (keyof SharedSettings)[]) put(name, settings.shared[name], sharedDefaults[name]);
  settings.panes.forEach((pane, i) => {
    const base = pageDefaults.panes[i]!;
    for (const name of Object.keys(runRules) as (keyof RunSettings)[]) put(`${'ab'[i]}.${name}`, pane[name], base[name]);
  });
  return query.toString();
}

/** Reads what `writeSettings` wrote. Values that do not fit are left at their defaults and named in `ignored`. */
export function readSettings(query: string): { readonly settings: PageSettings; readonly ignored: readonly string[] } {
  const given = new URLSearchParams(query);
  const ignored: string[] = [];
  const take = (name: string, rule: Rule, base: unknown): unknown => {
    const text = given.get(name);
    if (text === null) return base;
    const value = rule(text);
    if (value === undefined) ignored.push(`${name}=${text}`);
    return value ?? base;
  };
  const all = <T extends object>(rules: Record<keyof T, Rule>, base: T, prefix: string): T =>
    Object.fromEntries(
      (Object.keys(rules) as (keyof T & string)[]).map((name) => [name, take(prefix + name, rules[name], base[name])]),
    ) as T;
  const settings: PageSettings = {
    view: take('view', oneOf(views), pageDefaults.view) as ViewName,
    inside: take('inside', oneOf(insides), pageDefaults.inside) as InsideName,
    model: take('model', anything, pageDefaults.model) as string,
    device: take('device', oneOf(['auto', 'cpu', 'webgpu']), pageDefaults.device) as PageSettings['device'],
    shared: all(sharedRules, sharedDefaults, ''),
    panes: [all(runRules, pageDefaults.panes[0], 'a.'), all(runRules, pageDefaults.panes[1], 'b.')],
  };
  const known = new Set(['view', 'inside', 'model', 'device', ...Object.keys(sharedRules)]);
  for (const name of given.keys()) {
    if (!known.has(name) && !(/^[ab]\./.test(name) && Object.hasOwn(runRules, name.slice(2)))) ignored.push(name);
  }
  return { settings, ignored };
}
