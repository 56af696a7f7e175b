// What QuickJS has and the oldest Node.js that runs these tests has not.
Uint8Array.fromBase64 ??= (text) => new Uint8Array(Buffer.from(text, "base64"));
Uint8Array.prototype.toBase64 ??= function () {
  return Buffer.from(this).toString("base64");
};

/** A `dir` of loop:fsx in memory, made of {path: text or bytes}. */
export function memory(files) {
  const contents = new Map(
    Object.entries(files).map(([path, data]) => [path, typeof data === "string" ? Buffer.from(data) : data]),
  );
  const fail = (tag) => {
    throw Object.assign(new Error(tag), { payload: { tag } });
  };
  const read = (path) => contents.get(path) ?? fail("no-entry");
  return {
    glob: (pattern) => (pattern === "*.md" ? [...contents.keys()].filter((path) => path.endsWith(".md")).sort() : fail("invalid")),
    read: (path) => new Uint8Array(read(path)),
    readRange: (path, offset, length) => new Uint8Array(read(path)).subarray(offset, offset + length),
    stat: (path) => ({ name: path.split("/").pop(), kind: "regular-file", size: read(path).length, modified: null }),
  };
}
