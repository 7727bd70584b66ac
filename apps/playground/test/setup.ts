import { prepare } from '../../../tooling/scripts/lib/launch.mjs';
import { CLI, PLAYGROUND } from '../../../tooling/scripts/lib/stamp.mjs';

/** The tests drive the built page and compare it with the built command line program: both are built here when their sources have changed. */
export default async function setup(): Promise<void> {
  for (const app of [CLI, PLAYGROUND]) {
    if (!(await prepare(app))) throw new Error(`${app.name} could not be built; the reason is above`);
  }
}
