import { describe, expect, it } from 'vitest';
import { jsonLines, unroll } from './support.js';

const sum = ['generate', '7715+7307=', '--model', 'adder', '--init-scale', '0'];
const itemsOf = async (...flags: string[]) => jsonLines((await unroll([...sum, ...flags, '--json'])).out);
interface Report {
  readonly corePasses: number;
  readonly meanRecurrences: number;
  readonly speculation?: { readonly accepted: number; readonly drafted: number };
  readonly wavefront?: { readonly rounds: number };
  readonly cache: { readonly logicalBytes: number; readonly slots: number };
}
const reportOf = async (...flags: string[]) => (await itemsOf(...flags)).at(-1)!.report as Report;

// Each case loads a model several times, and the machine may be busy.
describe('strategies of generate', { timeout: 60_000 }, () => {
  it('stops tokens early by a rule, with its threshold and controls', async () => {
    const items = await itemsOf('--depth', '16', '--exit', 'kl:5e-4');
    expect(items.every(({ exit }) => (exit as { rule: string }).rule === 'kl')).toBe(true);
    expect(items.every(({ recurrences }) => (recurrences as number) < 16)).toBe(true);
    const never = await itemsOf('--depth', '5', '--exit', 'latent-diff:0');
    expect(never.every(({ recurrences }) => recurrences === 5)).toBe(true);
    const controlled = await itemsOf('--depth', '16', '--exit', 'kl:100', '--min-recurrences', '3', '--exit-every', '2');
    expect(controlled.every(({ recurrences }) => recurrences === 3)).toBe(true);
    const second = await itemsOf('--depth', '16', '--exit', 'argmax-stability:1', '--exit-every', '4');
    expect(second.every(({ recurrences }) => (recurrences as number) % 4 === 1)).toBe(true);
  });

  it('keeps the keys that a policy says', async () => {
    const full = await reportOf('--depth', '4');
    const one = await reportOf('--depth', '4', '--kv-policy', 'latest-compress-s2');
    expect(full.cache.slots).toBe(2 + 4 * 2);
    expect(one.cache.slots).toBe(2 + 2);
    expect(one.cache.logicalBytes).toBeLessThan(full.cache.logicalBytes);
  });

  it('starts where the last token ended', async () => {
    const logprobs = async (...flags: string[]) => (await itemsOf('--depth', '2', ...flags)).map(({ logprob }) => logprob);
    const [fresh, state, norm] = [await logprobs(), await logprobs('--warm-start', 'state'), await logprobs('--warm-start', 'norm-state')];
    expect(state[0]).toBe(fresh[0]);
    expect(new Set([fresh, state, norm].map((one) => one[1])).size).toBe(3);
  });

  it('speculates to the plain text in fewer passes, or approximately with a threshold', async () => {
    const plain = await itemsOf('--depth', '8');
    const drafted = await itemsOf('--depth', '8', '--speculative', '2,4');
    expect(drafted.map(({ token }) => token)).toEqual(plain.map(({ token }) => token));
    expect((drafted.at(-1)!.report as Report).corePasses).toBeLessThan((plain.at(-1)!.report as Report).corePasses);
    const all = await reportOf('--depth', '8', '--speculative', '1,3,0');
    expect(all.speculation!.accepted).toBe(all.speculation!.drafted);
  });

  it('refines a window, with options by name', async () => {
    const rounds = async (text: string) => (await reportOf('--depth', '8', '--wavefront', text)).wavefront!.rounds;
    const loose = await rounds('2,noise=0,threshold=10');
    expect(await rounds('2,noise=0,threshold=0.01,ema=0')).toBeGreaterThan(loose);
    expect(await rounds('4,freeze=fixed,headway=2,window=8,rounds=50,continuous')).toBeGreaterThan(0);
  });

  it('says on stderr with --report what the run took', async () => {
    const { out, err } = await unroll([...sum, '--depth', '8', '--speculative', '2,4', '--report']);
    expect(out).toBe('15022\n');
    expect(err).toMatch(
      /^6 new tokens, 8\.00 recurrences a token; \d+ core passes, prefill included; \d+ of \d+ drafts accepted; KV [\d,]+ bytes in 18 slots\n$/,
    );
    expect((await unroll([...sum, '--wavefront', '2,noise=0', '--report'])).err).toMatch(/; \d+ wavefront rounds;/);
  });
});

describe('bad strategies', () => {
  it.each<[string[], RegExp]>([
    [['--exit', 'kll'], /unknown exit rule "kll".*argmax-stability/],
    [['--exit', 'kl:'], /--exit must be RULE or RULE:THRESHOLD with a number; got ""/],
    [['--exit', 'kl:low'], /--exit must be .*got "low"/],
    [['--exit', 'kl', '--min-recurrences', '0'], /--min-recurrences .*got 0/],
    [['--min-recurrences', '2'], /--min-recurrences .*give --exit RULE/],
    [['--exit-every', '2'], /--exit-every .*give --exit RULE/],
    [['--kv-policy', 'fulll'], /unknown KV policy "fulll"/],
    [['--kv-policy', 'compress-s3'], /modulo 3 is not a multiple of the core's 2 layers/],
    [['--warm-start', 'hot'], /--warm-start must be norm-state or state; got "hot"/],
    [['--speculative', '2'], /--speculative must be D,L/],
    [['--speculative', '2,4,0.5,1'], /--speculative must be D,L/],
    [['--speculative', '2,x'], /--speculative must be .*got "x"/],
    [['--speculative', '9,4', '--depth', '8'], /draftRecurrences must be a whole number from 1 to the depth, 8; got 9/],
    [['--wavefront', ''], /--wavefront must be R or R,NAME=VALUE.*got ""/],
    [['--wavefront', '0'], /innerRecurrences must be a whole number from 1; got 0/],
    [['--wavefront', '2,nose=0'], /unknown option "nose=0"; did you mean noise\?/],
    [['--wavefront', '2,noise'], /noise needs a value/],
    [['--wavefront', '2,noise=2'], /stateNoise must be from 0 to 1; got 2/],
    [['--wavefront', '2,freeze=ice'], /freeze must be one of latent-diff.*got "ice"/],
    [['--wavefront', '2,continuous=1'], /continuous takes no value/],
    [['--exit', 'kl', '--kv-policy', 'full'], /own slot, which a token of smaller depth does not have/],
    [['--exit', 'kl', '--speculative', '2,4'], /exit and speculative cannot be combined: one pass runs several tokens/],
    [['--warm-start', 'state', '--wavefront', '2'], /warmStart and wavefront cannot be combined/],
    [['--speculative', '2,4', '--wavefront', '2'], /speculative and wavefront cannot be combined/],
    [['--speculative', '2,4', '--kv-policy', 'always-last'], /use full, latest or skip without compression/],
  ])('%j', async (flags, says) => {
    const { code, out, err } = await unroll(['generate', '1+1=', '--model', 'adder', ...flags]);
    expect(err).toMatch(says);
    expect(err.trimEnd().split('\n')).toHaveLength(1);
    expect([code, out]).toEqual([2, '']);
  });
});

describe('strategies of eval', { timeout: 60_000 }, () => {
  const stdin = '{"prompt": "731+094=", "answer": "0825"}\n{"prompt": "2+2=", "answer": "04"}\n';

  it('reports the recurrences that a rule left', async () => {
    const [line] = jsonLines((await unroll(['eval', '-', '--depths', '16', '--exit', 'kl', '--json'], { stdin })).out);
    expect(line).toMatchObject({ depth: 16, accuracy: 1, n: 2 });
    expect(line!.meanRecurrences).toBeLessThan(8);
    expect((await unroll(['eval', '-', '--depths', '16', '--exit', 'kl'], { stdin })).out).toContain('recurrences');
  });

  it('takes policies, and refuses what a batch cannot do as unknown', async () => {
    const [line] = jsonLines((await unroll(['eval', '-', '--depths', '8', '--kv-policy', 'compress-s1', '--json'], { stdin })).out);
    expect(line).toEqual({ depth: 8, accuracy: 1, n: 2 });
    expect((await unroll(['eval', '-', '--exit', 'kl', '--kv-policy', 'full'], { stdin })).code).toBe(2);
    expect((await unroll(['eval', '-', '--speculative', '2,4'], { stdin })).err).toMatch(/unknown flag --speculative/);
  });
});
