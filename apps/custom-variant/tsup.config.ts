import { library } from '../../tooling/tsup/library.mjs';

export default { ...library(['src/main.ts']), platform: 'node' as const, dts: false };
