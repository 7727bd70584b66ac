import { library } from '../../tooling/tsup/library.mjs';

export default library(['src/index.ts', 'src/cpu.ts', 'src/webgpu.ts', 'src/testing.ts', 'src/worker.ts']);
