import { ResultError } from '@loop-kit/provider';

/**
 * One store for each link: for each component that imports it. The grant comes from the host's manifest, for
 * instance `{ "prefix": "cart/" }`; the configuration likewise, for instance `{ "most": 100 }`.
 */
export function makeStore({ grant, config }) {
  const prefix = grant?.prefix ?? '';
  const most = config?.most ?? 1000;
  const texts = new Map();

  function check(key) {
    if (!key.startsWith(prefix)) throw new ResultError({ tag: 'denied' });
  }

  return {
    get(key) {
      check(key);
      return texts.get(key);
    },

    set(key, value) {
      check(key);
      if (!texts.has(key) && texts.size >= most) throw new ResultError({ tag: 'full', val: most });
      texts.set(key, value);
    },

    async *keys() {
      yield* [...texts.keys()].sort();
    },
  };
}

export default { 'acme:kv/store@0.1.0': makeStore };
