// A service of WASI 0.3. The path of a request says what it does.

import { Fields, Request, Response } from "wasi:http/types@0.3.0";

const encode = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0)); // ASCII is enough here
const decode = (bytes) => String.fromCharCode(...bytes);
const MIB = new Uint8Array(1 << 20).fill(120);

const ended = (type) => wit.Future.from(Promise.resolve({ tag: "ok", val: null }), type).readable;

function respond(status, headers, pieces) {
  const fields = Fields.fromList(Object.entries(headers).map(([name, value]) => [name, encode(value)]));
  const body = pieces && wit.Stream.from(pieces, wit.Stream.U8).readable;
  const [response] = Response.new(fields, body, ended(wit.Future.RESULT_OPTION_OTHER_ERROR_CODE));
  response.setStatusCode(status);
  return response;
}

const routes = {
  "/": () => respond(200, { "content-type": "text/plain", "x-guest": "yes" }, [encode("hello\n")]),
  "/sized": () => respond(200, { "content-length": "6" }, [encode("hello\n")]),
  "/empty": () => respond(204, {}, null),
  "/streamed": () => respond(200, {}, ["one ", "two ", "three\n"].map(encode)),
  "/big": () => respond(200, {}, [MIB, MIB, MIB, MIB]),
  "/echo": (request) => {
    const [body] = Request.consumeBody(request, ended(wit.Future.RESULT_VOID_ERROR_CODE));
    return respond(201, {}, body);
  },
  "/seen": (request) => {
    const headers = request.getHeaders().copyAll().map(([name, value]) => [name, decode(value)]);
    const seen = [request.getMethod(), request.getScheme(), request.getPathWithQuery(), headers.sort()];
    return respond(200, {}, [encode(JSON.stringify(seen))]);
  },
  "/trap": () => {
    throw new Error("on purpose");
  },
  "/error": () => {
    throw { tag: "internal-error", val: "on purpose" };
  },
};

export const handler = {
  async handle(request) {
    const target = request.getPathWithQuery();
    const route = routes[target.split("?")[0]];
    return route ? route(request) : respond(404, {}, [encode(`nothing at ${target}\n`)]);
  },
};
