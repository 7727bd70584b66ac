import { parseArgs } from 'node:util';
import { generate } from '@unroll/sampler';
import { forEachTensor, OptionError, UnrollError } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { loadVariant, saveVariant, taskTokenizer } from './files.js';
import { gateExit } from './gate-exit.js';
import { heldOutGroups, measureDepths, measureExits } from './measure.js';
import { parseVariantName, variantNames, variants } from './recipes.js';
import { depthReport, exitReport } from './report.js';
import { trainVariant } from './train.js';

const usage = `npm run variant -- train VARIANT [--steps N] [--seed N] [--problems N] [--out DIR] [--threads N]
npm run variant -- ask DIR PROMPT [--depth N] [--exit THRESHOLD]

Variants:
${variantNames.map((name) => `  ${name.padEnd(6)} ${variants[name].about}`).join('\n')}

Prompts are bits between # and =, such as "#011010=": is the number of ones odd.
`;

const thresholds = [0.1, 0.2, 0.3, 0.5, 0.9];
const logEvery = 100;

function whole(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least) throw new OptionError(`--${name} must be a whole number from ${least}; got ${text}`);
  return value;
}

/** Runs a command line; returns the exit code. `write` gets what is printed. */
export async function runCommand(args: readonly string[], write: (text: string) => void): Promise<number> {
  try {
    const [command, ...rest] = args;
    if (command === 'train') await train(rest, write);
    else if (command === 'ask') await ask(rest, write);
    else {
      write(usage);
      return command === undefined || command === '--help' ? 0 : 2;
    }
    return 0;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!(error instanceof UnrollError) && code === undefined) throw error;
    write(`${(error as Error).message}\n`);
    return 2;
  }
}

async function train(args: readonly string[], write: (text: string) => void): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      steps: { type: 'string', default: '900' },
      seed: { type: 'string', default: '1' },
      problems: { type: 'string', default: '60' },
      out: { type: 'string' },
      threads: { type: 'string', default: '1' },
    },
  });
  const name = parseVariantName(positionals[0]);
  const out = values.out ?? `runs/${name}`;
  const steps = whole('steps', values.steps, 1);
  const seed = whole('seed', values.seed, 0);
  const groups = heldOutGroups(whole('problems', values.problems, 1));
  const device = createCpuDevice({ threads: whole('threads', values.threads, 1) });
  try {
    const begun = performance.now();
    const trainer = await trainVariant(device, name, { steps, seed }, ({ step, loss, levels }) => {
      if (step % logEvery === 0 || step === steps)
        write(`step ${step}: loss ${loss.toFixed(3)}, problems of up to ${levels!.parity} bits\n`);
    });
    try {
      const seconds = (performance.now() - begun) / 1000;
      const { model } = trainer;
      let parameters = 0;
      forEachTensor(model.params, (tensor) => {
        parameters += tensor.size;
      });
      write(`${name}: ${variants[name].about}; ${parameters} parameters, ${steps} steps in ${seconds.toFixed(0)} s\n\n`);
      const { depths } = variants[name];
      write(`${depthReport(groups, depths, await measureDepths(model, groups, depths))}\n`);
      if (variants[name].family.hasExitGate) {
        const tokenizer = taskTokenizer(model.contextLength);
        const results = [];
        for (const group of groups) {
          const row = [];
          for (const threshold of thresholds) row.push(await measureExits(model, tokenizer, group, threshold));
          results.push(row);
        }
        write(`${exitReport(groups, thresholds, results)}\n`);
      }
      await saveVariant(out, name, trainer);
      write(`saved in ${out}; ask it: npm run variant -- ask ${out} "#0110100110="\n`);
    } finally {
      trainer.dispose();
    }
  } finally {
    device.dispose();
  }
}

async function ask(args: readonly string[], write: (text: string) => void): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { depth: { type: 'string' }, exit: { type: 'string' } },
  });
  const [folder, prompt] = positionals;
  if (folder === undefined || prompt === undefined) throw new OptionError('ask needs the folder of a trained variant and a prompt');
  const device = createCpuDevice({ threads: 1 });
  try {
    const { name, model } = await loadVariant(folder, device);
    try {
      const tokenizer = taskTokenizer(model.contextLength);
      const recurrences = values.depth === undefined ? model.meanRecurrence : whole('depth', values.depth, 1);
      const exit = values.exit === undefined ? {} : { exit: gateExit(model, Number(values.exit)) };
      let answer = '';
      const loops: number[] = [];
      // #region generate
      for await (const token of generate({ model, tokenizer, prompt, recurrences, maxNewTokens: 8, initScale: 0, ...exit })) {
        answer += token.text;
        loops.push(token.recurrences);
      }
      // #endregion generate
      write(`${prompt}${answer.trim()}  (${name}; loops of each token: ${loops.join(', ')})\n`);
    } finally {
      model.dispose();
    }
  } finally {
    device.dispose();
  }
}
