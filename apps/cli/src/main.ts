#!/usr/bin/env node
import { processIo } from './process-io.js';
import { runCli } from './run.js';

// A helper of another process ends with it.
if (process.connected) {
  process.once('disconnect', () => process.exit(1));
  // The channel alone must not keep a helper alive that is done.
  process.channel?.unref();
}
// The code is set, not exited with: what is still on its way into a pipe gets there.
process.exitCode = await runCli(process.argv.slice(2), processIo());
