// A resolver that does, by its config, what none should.
import { fetch } from "loop:netx/http-client@0.1.0";
import { config } from "loop:provider/settings@0.1.0";

const said = () => JSON.parse(config());
const mode = () => said().mode;

function hang() {
  for (;;);
}

function fill() {
  const held = [];
  for (;;) held.push(new Uint8Array(16 << 20).fill(1));
}

export const resolver = {
  versions: () => [],
  resolve(name) {
    if (mode() === "endless") hang();
    if (mode() === "memory") fill();
    if (mode() === "nonsense") return 7;
    if (mode() === "throws") throw new Error("no case of error");
    if (mode() === "words") throw { tag: "invalid", val: "x".repeat(1_000_000) };
    if (mode() === "elsewhere") {
      try {
        fetch({ method: "GET", url: said().elsewhere, headers: [], options: undefined }, undefined);
      } catch (error) {
        throw { tag: "invalid", val: `not there: ${error.payload?.tag ?? error.tag ?? error}` };
      }
    }
    return ["1.0"];
  },
  artifact(name, version) {
    const asset = { file: "tool.tar.gz", url: `${said().base}/tool.tar.gz`, headers: [], checksum: `sha256:${said().digest}` };
    if (mode() === "file") asset.file = "../../tool.tar.gz";
    if (mode() === "lies") asset.checksum = `sha256:${"0".repeat(64)}`;
    if (mode() === "digest") asset.checksum = "sha256:../../../x";
    if (mode() === "size") asset.size = 2 ** 52;
    if (mode() === "download") asset.url = said().elsewhere;
    if (mode() === "needs") asset.file = `${name}.tar.gz`;
    return asset;
  },
  verify: () => mode() !== "unsure",
  metadata(_name, _version, asset) {
    if (mode() === "apart") return { ...asset, file: "../../METADATA" };
    if (mode() === "apart lies") return { ...asset, checksum: `sha256:${"0".repeat(64)}` };
    return undefined;
  },
  unpack: () => ({
    archive: mode() === "archive" ? "zip" : "tar",
    strip: 0,
    into: { into: "../../../out", needs: "node_modules/x" }[mode()] ?? "",
    only: mode() === "only" ? ["../.."] : [],
    metadata: ["*"],
    layout: mode() === "needs" ? "nested" : "alone",
  }),
  needs: (name) =>
    mode() === "needs" ? [{ name: `${name}x`, real: `${name}x`, range: "", optional: false }] : [],
  bins(name) {
    const bin = { name: "tool", path: "tool", runner: "native" };
    if (mode() === "many") return Array(60_000).fill(bin);
    if (mode() === "bin") bin.path = "../../../../../../../bin/sh";
    if (mode() === "name") bin.name = "../tool";
    if (mode() === "go") Object.assign(bin, { path: "../..", runner: "go" });
    if (mode() === "python") Object.assign(bin, { path: "os;import sys:exit", runner: "python" });
    if (mode() === "none") return [];
    return [bin];
  },
  looksAt: () => ["../../../etc/passwd", "/etc/passwd"],
  detect: (_file, content) => [{ name: "tool", range: String.fromCharCode(...content) }],
};
