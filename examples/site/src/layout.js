// The look of a page in HTML; src/style.css has the rest. Everything works without a script.

import { html, raw } from "./html.js";
import { folderUrl, urlOf } from "./paths.js";

const icon =
  "data:image/svg+xml," +
  encodeURIComponent(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#4f46e5"/>' +
      '<path d="M10 16a4 4 0 1 1 6 3.5 4 4 0 1 0 6-3.5" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>',
  );

/**
 * A whole page. `site` may be null where it could not be read; `current` is the path of the page shown, `main` its
 * content, `aside` what stands beside it on wide screens.
 */
export function layout({ site, styles, title, current = null, main, aside = null, query = "" }) {
  const name = site?.title ?? "Site";
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title === name ? name : `${title} · ${name}`}</title>
<link rel="icon" href="${icon}">
<link rel="stylesheet" href="${styles}">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
<a class="brand" href="/"><img src="${icon}" alt="" width="24" height="24"> ${name}</a>
${searchForm(query)}
</header>
<div class="columns">
${site && navigation(site, current)}
<main id="main">
${main}
</main>
${aside}
</div>
</body>
</html>
`;
}

function searchForm(query) {
  return html`<form role="search" action="/search">
<input type="search" name="q" value="${query}" placeholder="Search" aria-label="Search this site" autocomplete="off" spellcheck="false">
</form>`;
}

function navigation(site, current) {
  const list = (folder) =>
    html`<ul>
${folder.index && link(folder.index, folder.path === "" ? folder.index.title : "Overview", current)}${folder.children.map((child) =>
      child.children ? group(child) : link(child, child.title, current),
    )}</ul>
`;
  // A short group stays open; a long one opens where the reader is in it.
  const group = (folder) => {
    const open = current?.startsWith(`${folder.path}/`) || folder.children.length <= 8;
    return html`<li><details${raw(open ? " open" : "")}><summary>${folder.title}</summary>
${list(folder)}</details></li>
`;
  };
  const tree = html`<nav aria-label="Pages">
${list(site.tree)}</nav>`;
  // The same list twice, and the style sheet shows one: beside the page, or folded away above it on small screens.
  return html`<div class="sidebar">${tree}</div>
<details class="menu"><summary>Pages</summary>${tree}</details>`;
}

function link(page, title, current) {
  const here = page.path === current ? raw(' aria-current="page"') : "";
  return html`<li><a href="${page.url}"${here}>${title}</a></li>
`;
}

/** A page of the folder: its content, where it stands, and what comes before and after it. */
export function article({ site, page, content }) {
  const order = [...site.pages.values()];
  const at = order.indexOf(page);
  return html`${crumbs(site, page.path)}
<article>
${raw(content)}
</article>
${pager(order[at - 1], order[at + 1])}`;
}

function crumbs(site, path) {
  const parts = path.split("/").slice(0, -1);
  const folders = parts.map((_, i) => site.folders.get(parts.slice(0, i + 1).join("/")));
  const above = folders.filter((folder) => folder.index?.path !== path);
  if (above.length === 0) return null;
  return html`<nav class="crumbs" aria-label="Breadcrumb"><ol>${above.map(
    (folder) => html`<li><a href="${folderUrl(folder.path)}">${folder.title}</a></li>`,
  )}</ol></nav>`;
}

function pager(before, after) {
  if (!before && !after) return null;
  return html`<nav class="pager" aria-label="Previous and next page">
${before && html`<a rel="prev" href="${before.url}"><small>Previous</small> ${before.title}</a>`}
${after && html`<a rel="next" href="${after.url}"><small>Next</small> ${after.title}</a>`}
</nav>`;
}

/** The headings of a page, if there are enough of them to get lost among. */
export function contents(headings) {
  const listed = headings.filter(({ level }) => level === 2 || level === 3);
  if (listed.length < 2) return null;
  return html`<aside class="contents"><nav aria-labelledby="contents">
<h2 id="contents">On this page</h2>
<ul>
${listed.map(({ level, id, text }) => html`<li class="level-${level}"><a href="#${encodeURIComponent(id)}">${text}</a></li>\n`)}</ul>
</nav></aside>`;
}

/** What stands for a folder without an index page. */
export function listing(folder) {
  return html`<h1>${folder.title}</h1>
<ul class="listing">
${folder.children.map((child) => html`<li><a href="${child.url ?? folderUrl(child.path)}">${child.title}</a></li>\n`)}</ul>`;
}

export function results(query, { total, results }) {
  if (query.trim() === "") return html`<h1>Search</h1>\n<p>Type a word or two into the field at the top.</p>`;
  const count = total === 1 ? "1 page" : `${total || "No"} pages`;
  return html`<h1>Search</h1>
<p class="count" role="status">${count} for “${query}”</p>
<ol class="results">
${results.map(
    ({ path, title, section, excerpt }) => html`<li>
<h2><a href="${urlOf(path)}${section.id && `#${encodeURIComponent(section.id)}`}">${title}${
      section.heading && section.heading !== title && html`<span> › ${section.heading}</span>`
    }</a></h2>
<p class="path">${urlOf(path)}</p>
<p>${excerpt}</p>
</li>
`,
  )}</ol>`;
}

export function notFound(path, suggestions) {
  return html`<div class="status"><p class="code">404</p>
<h1>There is no such page</h1>
<p>Nothing is published at <code>${path}</code>.</p>
${suggestions.length > 0 && html`<p>Did you mean</p>
<ul>
${suggestions.map((page) => html`<li><a href="${page.url}">${page.title}</a></li>\n`)}</ul>`}
<p><a href="/">Go to the first page</a></p></div>`;
}

export function failure(status, heading, advice) {
  return html`<div class="status"><p class="code">${status}</p>
<h1>${heading}</h1>
<p>${advice}</p></div>`;
}
