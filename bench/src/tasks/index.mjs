import { decoderTask } from './decoder.mjs';
import { limitTask } from './limit.mjs';
import { loadTask } from './load.mjs';
import { productTask } from './product.mjs';
import { trainTask } from './train.mjs';

/** What a sample process can do: (session, item, job) -> rows of { what, kind, unit, value, ... }. */
export const tasks = { product: productTask, limit: limitTask, decoder: decoderTask, load: loadTask, train: trainTask };
