// Where tools are: the files NAME-VERSION.tar.gz of a server, and a list of their versions, NAME.json.
// wit/deps/pkg/pkg.wit says what each function promises; an error is thrown as a case of its `error`.
import { fetch } from "loop:netx/http-client@0.1.0";
import { config } from "loop:provider/settings@0.1.0";

const base = () => JSON.parse(config()).base;

/** What the server has in one of its lists: versions with their SHA-256. */
function listed(name) {
  const request = { method: "GET", url: `${base()}/${name}.json`, headers: [], options: undefined };
  const response = fetch(request, undefined);
  if (response.status !== 200) throw { tag: "not-found", val: `there is no ${name}` };
  return JSON.parse(String.fromCharCode(...response.body));
}

const numbers = (version) => version.split(".").map(Number);
const order = (a, b) => numbers(a).reduce((found, part, at) => found || part - numbers(b)[at], 0);

export const resolver = {
  versions: (name) =>
    Object.keys(listed(name)).sort(order).map((version) => ({ version, prerelease: false, yanked: false })),
  resolve(name, ranges) {
    const fits = (version) => ranges.every((range) => version === range || version.startsWith(`${range}.`));
    const found = Object.keys(listed(name)).filter(fits).sort(order).reverse();
    if (!found.length) throw { tag: "not-found", val: `no version of ${name} is in ${ranges.join(" and ")}` };
    return found;
  },
  artifact(name, version) {
    const file = `${name}-${version}.tar.gz`;
    return { file, url: `${base()}/${file}`, headers: [], checksum: `sha256:${listed(name)[version]}`, size: undefined };
  },
  verify: () => true, // the host has compared the checksum
  metadata: () => undefined,
  unpack: () => ({ archive: "tar", strip: 0, into: "", only: [], metadata: [], layout: "alone" }),
  needs: () => [],
  bins: (_name, _version, _platform, entries) =>
    entries.filter((entry) => entry.executable).map(({ path }) => ({ name: path.split("/").pop(), path, runner: "native" })),
  looksAt: () => [],
  detect: () => [],
};
