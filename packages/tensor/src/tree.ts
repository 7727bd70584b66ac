import { Tensor } from './tensor.js';

/** Nested arrays, plain objects and Maps with tensors as leaves; other leaves are carried along. */
export type Tree = unknown;

/** Calls `f` with every tensor of a tree and its path, such as `transformer.core_block.0.attn.Wqkv.weight`. */
export function forEachTensor(tree: Tree, f: (tensor: Tensor, path: string) => void, path = ''): void {
  if (tree instanceof Tensor) {
    f(tree, path);
    return;
  }
  const at = (key: string | number) => (path === '' ? String(key) : `${path}.${key}`);
  if (Array.isArray(tree)) {
    tree.forEach((item, i) => forEachTensor(item, f, at(i)));
  } else if (tree instanceof Map) {
    for (const [key, item] of tree) forEachTensor(item, f, at(String(key)));
  } else if (typeof tree === 'object' && tree !== null && isPlain(tree)) {
    for (const [key, item] of Object.entries(tree)) forEachTensor(item, f, at(key));
  }
}

/** A tree of the same form with every tensor replaced. */
export function mapTensors<T>(tree: T, f: (tensor: Tensor, path: string) => unknown, path = ''): T {
  if (tree instanceof Tensor) return f(tree, path) as T;
  const at = (key: string | number) => (path === '' ? String(key) : `${path}.${key}`);
  if (Array.isArray(tree)) return tree.map((item, i) => mapTensors(item, f, at(i))) as T;
  if (tree instanceof Map) return new Map([...tree].map(([key, item]) => [key, mapTensors(item, f, at(String(key)))])) as T;
  if (typeof tree === 'object' && tree !== null && isPlain(tree)) {
    return Object.fromEntries(Object.entries(tree).map(([key, item]) => [key, mapTensors(item, f, at(key))])) as T;
  }
  return tree;
}

/** Disposes every tensor of a tree. */
export function disposeTree(tree: Tree): void {
  forEachTensor(tree, (tensor) => tensor.dispose());
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
