import { parseArgs } from 'node:util';
import { groups } from './groups/index.mjs';
import { peerNames } from './peers/index.mjs';

export const usage = `npm run bench -- [GROUP...] [options]

Groups: ${Object.keys(groups).join(', ')} (all when none is named)

  --threads LIST      1, 2 or 1,2 (default: what the group has)
  --peers LIST        of ${peerNames.join(', ')}
  --kinds LIST        of f32, q8, q4, dynq8
  --node PATH         a Node program, "pinned" (24) or "current" (default: pinned, then current where it is another)
  --rounds N          samples of each (default: 5)
  --append            go on with the run that bench/results has
  --even-if-busy      measure although something else is running; the results say so
  --write             write docs/performance.md from bench/results, and measure nothing
`;

const list = (text) => text?.split(',').filter((one) => one !== '');

function known(option, values, all) {
  const unknown = values?.find((one) => !all.includes(one));
  if (unknown !== undefined) throw new Error(`${option}: "${unknown}" is unknown; it takes ${all.join(', ')}`);
  return values;
}

/** The command line. Throws Error with a sentence for what it does not know. */
export function parseOptions(argv) {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      threads: { type: 'string' },
      peers: { type: 'string' },
      kinds: { type: 'string' },
      node: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      append: { type: 'boolean', default: false },
      'even-if-busy': { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const rounds = Number(values.rounds);
  if (!(Number.isInteger(rounds) && rounds > 0)) throw new Error(`--rounds must be a whole number from 1; got "${values.rounds}"`);
  return {
    groups: positionals.length === 0 ? Object.keys(groups) : known('groups', positionals, Object.keys(groups)),
    threads: known('--threads', list(values.threads), ['1', '2'])?.map(Number),
    peers: known('--peers', list(values.peers), peerNames) ?? peerNames,
    kinds: known('--kinds', list(values.kinds), ['f32', 'q8', 'q4', 'dynq8']),
    node: values.node,
    rounds,
    append: values.append,
    evenIfBusy: values['even-if-busy'],
    write: values.write,
    help: values.help,
  };
}
