#!/usr/bin/env node
import { processIo } from './process-io.js';
import { runCli } from './run.js';

// The code is set, not exited with: what is still on its way into a pipe gets there.
process.exitCode = await runCli(process.argv.slice(2), processIo());
