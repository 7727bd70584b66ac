import { type KVPolicy, parseKVPolicy } from '@unroll/nn';
import { OptionError } from '@unroll/tensor';

/** A policy, or the name of one, such as `latest-compress-s4`. Throws OptionError for anything else. */
export function cachePolicy(policy: KVPolicy | string): KVPolicy {
  if (typeof policy === 'string') return parseKVPolicy(policy);
  const { lookup, compression } = (policy ?? {}) as Partial<KVPolicy>;
  if (typeof lookup === 'string' && typeof compression?.kind === 'string') return policy;
  throw new OptionError(
    `createCache: policy must be a name, such as "latest" or "latest-compress-s4", or { lookup, compression: { kind } } as parseKVPolicy gives it; got ${JSON.stringify(policy)}`,
  );
}
