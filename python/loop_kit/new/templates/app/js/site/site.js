// The edge of the component: WASI's HTTP on one side, plain functions on the other.

import { greet } from "acme:site/greetings@0.1.0";
import { log } from "loop:core/log@0.1.0";
import { Fields, Response } from "wasi:http/types@0.3.0";

import { failure, respond } from "./page.js";

export const handler = {
  async handle(request) {
    const target = request.getPathWithQuery() ?? "/";
    let answer;
    try {
      answer = respond(target, greet);
    } catch (error) {
      log("error", "site", `${error}\n${error.stack}`, [["target", target]]);
      answer = failure();
    }
    log("info", "site", "request", [["target", target], ["status", String(answer.status)]]);
    return responseOf(answer, request.getMethod().tag !== "head");
  },
};

function responseOf({ status, html }, whole) {
  const content = encode(html);
  const fields = { "content-type": "text/html; charset=utf-8", "content-length": String(content.length) };
  const headers = Fields.fromList(Object.entries(fields).map(([name, value]) => [name, encode(value)]));
  const body = whole ? wit.Stream.from([content], wit.Stream.U8).readable : null;
  // No trailers follow the body.
  const trailers = wit.Future.from({ tag: "ok", val: null }, wit.Future.RESULT_OPTION_OTHER_ERROR_CODE);
  const [response] = Response.new(headers, body, trailers.readable);
  response.setStatusCode(status);
  return response;
}

/** UTF-8: the engine has no TextEncoder. */
function encode(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (byte) => byte.charCodeAt(0));
}
