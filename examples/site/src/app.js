// From a request to a response: which page, file or search an address means.

import { page, parseTarget, redirect, response, typeOf } from "./http.js";
import { article, contents, failure, layout, listing, notFound, results } from "./layout.js";
import { loadSite } from "./pages.js";
import { decodePercent, folderOf, folderUrl, isPage, isServed, resolve, urlOf } from "./paths.js";
import { render } from "./render.js";
import { search, suggest } from "./search.js";
import { decode } from "./utf8.js";

// How much of a file is in memory at a time while it is sent.
const CHUNK = 64 * 1024;

/**
 * The site as a function of a request, {method, target}, to a response, {status, headers, body}.
 *
 * `open()` gives the folder as a `dir` of loop:fsx, `log` is loop:core's, `css` the style sheet.
 */
export function createApp({ open, log, css }) {
  // The address changes with the content, so that browsers may keep it for good.
  const styles = `/style.css?v=${checksum(css)}`;

  function respond({ method, target }) {
    if (method !== "GET" && method !== "HEAD") {
      const main = failure(405, "That cannot be done here", "This site only answers GET and HEAD.");
      return page(405, layout({ site: null, styles, title: "Method not allowed", main }), { allow: "GET, HEAD" });
    }
    const { path, parameters } = parseTarget(target);
    if (path === "/style.css") {
      return response(200, "text/css; charset=utf-8", css, { "cache-control": "public, max-age=31536000, immutable" });
    }
    const dir = open();
    const site = loadSite(dir);
    const show = (status, parts) => page(status, layout({ site, styles, ...parts }));
    if (path === "/search") return showSearch(dir, site, parameters.get("q") ?? "", show);
    return (
      (path !== null && path.startsWith("/") && isServed(path) && find(dir, site, path.slice(1), show)) ||
      showMissing(site, path ?? target, show)
    );
  }

  return (request) => {
    let answer;
    try {
      answer = respond(request);
    } catch (error) {
      log("error", "site", `cannot answer: ${describe(error)}`, [["target", request.target]]);
      const main = failure(500, "Something went wrong", "The page could not be made. The log says why.");
      answer = page(500, layout({ site: null, styles, title: "Error", main }));
    }
    log("info", "site", "request", [
      ["method", request.method],
      ["target", request.target],
      ["status", String(answer.status)],
    ]);
    return answer;
  };
}

/** The response for a path that names something; undefined if it does not. */
function find(dir, site, path, show) {
  const { pages, folders } = site;
  if (path === "" || path.endsWith("/")) {
    const folder = folders.get(path.replace(/\/$/, ""));
    if (folder?.index) return showPage(dir, site, folder.index, show);
    if (folder) return show(200, { title: folder.title, current: `${folder.path}/`, main: listing(folder) });
    const source = `${path.slice(0, -1)}.md`;
    return pages.has(source) ? redirect(urlOf(source)) : undefined;
  }
  const source = `${path}.md`;
  if (pages.has(source) && folderOf(source) === null) return showPage(dir, site, pages.get(source), show);
  for (const known of [source, path]) if (pages.has(known)) return redirect(urlOf(known));
  return folders.has(path) ? redirect(folderUrl(path)) : sendFile(dir, path);
}

function showPage(dir, site, current, show) {
  const target = (href) => {
    // A scheme, an authority, or a place in this page: not ours to change.
    if (/^([a-z][a-z0-9+.-]*:|\/\/|#|$)/i.test(href)) return href;
    const [, relative, rest] = /^([^?#]*)(.*)$/.exec(href);
    const decoded = decodePercent(relative);
    const path = decoded === null ? null : resolve(current.path, decoded);
    if (path === null) return null;
    if (site.pages.has(path)) return urlOf(path) + rest;
    if (site.folders.has(path)) return folderUrl(path) + rest;
    return isPage(path) || !exists(dir, path) ? null : urlOf(path) + rest;
  };
  const { html, headings } = render(decode(dir.read(current.path)), target);
  return show(200, {
    title: current.title,
    current: current.path,
    main: article({ site, page: current, content: html }),
    aside: contents(headings),
  });
}

function showSearch(dir, site, query, show) {
  const pages = [...site.pages.values()].map((page) => ({ ...page, source: decode(dir.read(page.path)) }));
  const found = search(pages, query);
  return show(200, { title: "Search", query, main: results(query, found) });
}

function showMissing(site, path, show) {
  const suggestions = suggest([...site.pages.values()], path);
  return show(404, { title: "Not found", main: notFound(path, suggestions) });
}

/** Any other file of the folder, such as an image, a piece at a time. */
function sendFile(dir, path) {
  const entry = stat(dir, path);
  if (entry?.kind !== "regular-file") return undefined;
  function* pieces() {
    for (let at = 0; at < entry.size; at += CHUNK) {
      const piece = dir.readRange(path, at, Math.min(CHUNK, entry.size - at));
      if (piece.length === 0) throw new Error(`${path} became shorter while it was sent`);
      yield piece;
    }
  }
  return response(200, typeOf(path), { length: entry.size, pieces: pieces() });
}

function exists(dir, path) {
  return stat(dir, path)?.kind === "regular-file";
}

/** What a path names, or null if that is nothing, or nothing that may be seen. */
function stat(dir, path) {
  try {
    return dir.stat(path);
  } catch (error) {
    if (["no-entry", "not-directory", "not-permitted", "access", "invalid", "name-too-long"].includes(codeOf(error))) {
      return null;
    }
    throw error;
  }
}

/** The case of an `error-code` of loop:fsx; undefined for any other error. */
const codeOf = (error) => error.payload?.tag;

const describe = (error) => `${codeOf(error) ?? error.message}\n${error.stack}`;

/** FNV-1a: tells versions of a text apart. */
function checksum(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(36);
}
