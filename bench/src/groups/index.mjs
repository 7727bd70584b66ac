import * as decode25m from './decode-25m.mjs';
import * as decode110m from './decode-110m.mjs';
import * as floor from './floor.mjs';
import * as gemm from './gemm.mjs';
import * as gemmQuantised from './gemm-quantised.mjs';
import * as gemv from './gemv.mjs';
import * as load from './load.mjs';
import * as profile from './profile.mjs';
import * as quality from './quality.mjs';
import * as size from './size.mjs';
import * as start from './start.mjs';
import * as train from './train.mjs';

/** What is measured, by name, in the order of the report. */
export const groups = {
  gemm,
  'gemm-quantised': gemmQuantised,
  gemv,
  'decode-25m': decode25m,
  'decode-110m': decode110m,
  floor,
  profile,
  start,
  load,
  size,
  quality,
  train,
};
