// The little of HTTP that the site needs, apart from any host: a request and a response are plain objects.

import { decodePercent } from "./paths.js";

const types = {
  avif: "image/avif",
  css: "text/css; charset=utf-8",
  gif: "image/gif",
  jpeg: "image/jpeg",
  jpg: "image/jpeg",
  json: "application/json",
  pdf: "application/pdf",
  png: "image/png",
  svg: "image/svg+xml",
  txt: "text/plain; charset=utf-8",
  webp: "image/webp",
};

/** The media type of a file by its ending; what is not known is offered as a download. */
export function typeOf(path) {
  const ending = path.split(".").pop().toLowerCase();
  return Object.hasOwn(types, ending) ? types[ending] : "application/octet-stream";
}

// Pages carry no scripts, and nothing in them may become one.
const safety = {
  "content-security-policy":
    "default-src 'none'; style-src 'self'; img-src 'self' https: data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
};

/** A response; `body` is a string, bytes, or an iterable of bytes whose `length` is known beforehand. */
export function response(status, type, body, headers = {}) {
  return { status, headers: { "content-type": type, "cache-control": "no-cache", ...safety, ...headers }, body };
}

export const page = (status, html, headers) => response(status, "text/html; charset=utf-8", String(html), headers);

export function redirect(location) {
  return response(308, "text/plain; charset=utf-8", `See ${location}\n`, { location });
}

/** Splits a request target into its decoded path (null if malformed) and its query parameters. */
export function parseTarget(target) {
  const [path, ...query] = target.split("#")[0].split("?");
  const parameters = new Map();
  for (const pair of query.join("?").split("&")) {
    const [name, ...value] = pair.split("=").map((part) => decodePercent(part.replaceAll("+", " ")));
    // The first of equal names counts; a malformed pair is as good as none.
    if (name && !value.includes(null) && !parameters.has(name)) parameters.set(name, value.join("="));
  }
  return { path: decodePercent(path), parameters };
}
