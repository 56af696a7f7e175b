// What the folder holds: its pages with their titles, and the tree that the sidebar shows.

import { folderOf, humanise, isServed, urlOf } from "./paths.js";
import { titleOf } from "./render.js";
import { decode } from "./utf8.js";

// Enough of a file to find its title in.
const HEAD = 1024;

/** Every page as {path, url, title} in reading order, every folder, and both as a tree. */
export function loadSite(dir) {
  const paths = dir.glob("*.md").filter(isServed);
  const pages = new Map(
    paths.map((path) => {
      const title = titleOf(decode(dir.readRange(path, 0, HEAD)));
      return [path, { path, url: urlOf(path), title: title ?? humanise(path.split("/").pop()) }];
    }),
  );
  const folders = growTree(pages, (path) => decode(dir.read(path)));
  const tree = folders.get("");
  const ordered = new Map(inOrder(tree).map((page) => [page.path, page]));
  return { pages: ordered, folders, tree, title: tree.index?.title ?? "Site" };
}

/** Every folder by its path: {path, title, index, children}; an index page is not among the children. */
function growTree(pages, read) {
  const folders = new Map();
  const folder = (path) => {
    if (!folders.has(path)) {
      const made = { path, title: humanise(path.split("/").pop()), index: null, children: [] };
      folders.set(path, made);
      if (path !== "") folder(parent(path)).children.push(made);
    }
    return folders.get(path);
  };
  folder("");
  for (const page of pages.values()) {
    const introduced = folderOf(page.path);
    if (introduced === null) folder(parent(page.path)).children.push(page);
    // index.md comes after README.md by name, and so wins where a folder has both.
    else Object.assign(folder(introduced), { index: page, title: page.title });
  }
  for (const each of folders.values()) order(each, folders, read);
  return folders;
}

const parent = (path) => path.split("/").slice(0, -1).join("/");

// An author orders the sidebar by writing: what an index links to comes first, in that order; then the other pages and
// the other folders, each by path. A folder without an index is ordered by the one above it.
function order(folder, folders, read) {
  let teller = folder;
  while (!teller.index && teller.path !== "") teller = folders.get(parent(teller.path));
  const text = teller.index && folder.children.length > 1 ? read(teller.index.path) : "";
  const place = (child) => {
    const target = child.children ? `${child.path}/` : child.path;
    const relative = teller.path === "" ? target : target.slice(teller.path.length + 1);
    const found = [`](${relative}`, `](./${relative}`].map((link) => text.indexOf(link)).filter((at) => at >= 0);
    return Math.min(...found); // Infinity where it is not linked
  };
  const places = new Map(folder.children.map((child) => [child, place(child)]));
  const isFolder = (child) => Number("children" in child);
  folder.children.sort(
    (a, b) => places.get(a) - places.get(b) || isFolder(a) - isFolder(b) || (a.path < b.path ? -1 : 1),
  );
}

/** The pages below a folder as one reads them. */
function inOrder(folder) {
  const index = folder.index ? [folder.index] : [];
  return [...index, ...folder.children.flatMap((child) => (child.children ? inOrder(child) : [child]))];
}
