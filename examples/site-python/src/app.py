"""The edge of the component: WASI's HTTP on one side, the site as a plain function on the other."""

import traceback

import pages
from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import files, log
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    Method,
    Method_Other,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# What WASI takes in one blocking write.
CHUNK = 4096


class IncomingHandler(exports.IncomingHandler):
    """What the world exports: componentize-py finds it by its name."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        """Answer one request."""
        name = name_of(request.method())
        target = request.path_with_query() or "/"
        try:
            answer = pages.respond(name, target, files.root("docs"))
        except Exception:  # whatever went wrong, the reader gets a page and the log the reason
            log.log(log.Level.ERROR, "site", f"cannot answer: {traceback.format_exc()}", [("target", target)])
            answer = pages.failure()
        fields = [("method", name), ("target", target), ("status", str(answer.status))]
        log.log(log.Level.INFO, "site", "request", fields)
        if name == "HEAD":
            send(response_out, answer.status, answer.headers, b"")
        else:
            body = answer.body.encode()
            send(response_out, answer.status, {**answer.headers, "content-length": str(len(body))}, body)


def name_of(method: Method) -> str:
    """The method as HTTP writes it."""
    if isinstance(method, Method_Other):
        return method.value
    return type(method).__name__.removeprefix("Method_").upper()


def send(response_out: ResponseOutparam, status: int, headers: dict[str, str], body: bytes) -> None:
    """Send a response: its head first, then its body in as many pieces as it takes."""
    response = OutgoingResponse(Fields.from_list([(name, value.encode()) for name, value in headers.items()]))
    response.set_status_code(status)
    outgoing = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with outgoing.write() as stream:
        for start in range(0, len(body), CHUNK):
            stream.blocking_write_and_flush(body[start : start + CHUNK])
    OutgoingBody.finish(outgoing, None)
