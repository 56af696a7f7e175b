// The edge of the component: WASI's HTTP on one side, the site as a plain function on the other.

import { log } from "loop:core/log@0.1.0";
import { root } from "loop:fsx/files@0.1.0";
import { Fields, Response } from "wasi:http/types@0.3.0";

import { createApp } from "./app.js";
import css from "./style.css";
import { encode } from "./utf8.js";

const app = createApp({ open: () => root("docs"), log, css });

export const handler = {
  async handle(request) {
    const method = request.getMethod();
    const { status, headers, body } = app({
      method: (method.tag === "other" ? method.val : method.tag).toUpperCase(),
      target: request.getPathWithQuery() ?? "/",
    });
    const response = method.tag === "head" ? respond(headers, null) : respondWith(headers, body);
    response.setStatusCode(status);
    return response;
  },
};

function respondWith(headers, body) {
  const content = typeof body === "string" ? encode(body) : body;
  return respond({ ...headers, "content-length": String(content.length) }, content.pieces ?? [content]);
}

/** A response whose body is written, piece by piece, after it was returned; `null` is no body. */
function respond(headers, pieces) {
  const fields = Fields.fromList(Object.entries(headers).map(([name, value]) => [name, encode(value)]));
  const body = pieces && wit.Stream.from(pieces, wit.Stream.U8);
  // What follows the body is no trailers, or the news that there is less of it than promised.
  const ending = (body?.completion ?? Promise.resolve()).then(
    () => ({ tag: "ok", val: null }),
    (error) => {
      log("warn", "site", `cannot finish a response: ${error?.message ?? error}`, []);
      return { tag: "err", val: { tag: "internal-error", val: null } };
    },
  );
  const trailers = wit.Future.from(ending, wit.Future.RESULT_OPTION_OTHER_ERROR_CODE);
  const [response] = Response.new(fields, body?.readable ?? null, trailers.readable);
  return response;
}
