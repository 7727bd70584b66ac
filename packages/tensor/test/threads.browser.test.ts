import { createCpuDevice } from '@unroll/tensor/cpu';
import { expect, it } from 'vitest';
import { results, started } from './support/threads.js';

// The test pages are cross-origin isolated; tooling/consumers has pages that are not.
it('threads give the same bits in a page', async () => {
  const one = createCpuDevice({ threads: 1 });
  const three = await started(3);
  expect(three.description).toMatch(/SIMD, 3 threads$/);
  for (let i = 0; i < 3; i++) expect(results(three)).toEqual(results(one));
  one.dispose();
  three.dispose();
});
