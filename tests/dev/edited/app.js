// What is edited while a browser shows it: a page with a word of its code, one of a provider, and files of a folder.

import { word } from "test:edited/words";
import { root } from "loop:fsx/files@0.1.0";
import { Fields, Response } from "wasi:http/types@0.3.0";

import css from "./inline.css";
import { marker } from "./marker.js";
import { encode } from "./utf8.js";

const types = { css: "text/css", html: "text/html; charset=utf-8", js: "text/javascript", txt: "text/plain" };

const page = () => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>edited</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css"><script type="module" src="/page.js"></script>
<style>${css}</style>
<p id="code">${marker}</p><p id="word">${word()}</p>
`;

export const handler = {
  async handle(request) {
    const path = request.getPathWithQuery().split("?")[0];
    if (path === "/") return respond(200, "text/html; charset=utf-8", encode(page()));
    const type = types[path.split(".").pop()];
    if (type !== undefined) return respond(200, type, root("files").read(path.slice(1)));
    return respond(404, "text/plain", encode("there is no such page\n"));
  },
};

function respond(status, type, content) {
  const fields = Fields.fromList([["content-type", encode(type)], ["content-length", encode(String(content.length))]]);
  const body = wit.Stream.from([content], wit.Stream.U8);
  const ending = body.completion.then(
    () => ({ tag: "ok", val: null }),
    () => ({ tag: "err", val: { tag: "internal-error", val: null } }),
  );
  const trailers = wit.Future.from(ending, wit.Future.RESULT_OPTION_OTHER_ERROR_CODE);
  const [response] = Response.new(fields, body.readable, trailers.readable);
  response.setStatusCode(status);
  return response;
}
