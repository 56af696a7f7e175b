// Paths of files in the folder, and the addresses under which the site shows them.

/** Joins a relative path to the folder of a file; null where it leaves the root or is not a path. */
export function resolve(from, relative) {
  const parts = relative.startsWith("/") ? [] : from.split("/").slice(0, -1);
  for (const part of relative.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.pop() === undefined) return null;
  }
  return isServed(parts.join("/")) ? parts.join("/") : null;
}

/** Whether a path may be shown at all: nothing hidden, and nothing that a file system might read otherwise. */
export function isServed(path) {
  return path.split("/").every((part) => part === "" || !/^\.|[\\\0]/.test(part));
}

export const isPage = (path) => path.endsWith(".md");

const isIndex = (path) => /(^|\/)(index|README)\.md$/.test(path);

/** The folder that a page introduces ("" is the root), or null for any other page. */
export function folderOf(path) {
  return isIndex(path) ? path.split("/").slice(0, -1).join("/") : null;
}

/** Undoes percent-encoding; null where it is malformed. */
export function decodePercent(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

const encode = (path) => path.split("/").map(encodeURIComponent).join("/");

export const folderUrl = (folder) => (folder === "" ? "/" : `/${encode(folder)}/`);

/** The address of a file: pages lose their ending, an index becomes its folder. */
export function urlOf(path) {
  const folder = folderOf(path);
  if (folder !== null) return folderUrl(folder);
  return `/${encode(isPage(path) ? path.slice(0, -3) : path)}`;
}

/** "getting-started" → "Getting started", for whatever has no title of its own. */
export function humanise(name) {
  const words = name.replace(/\.md$/, "").replace(/[-_]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
