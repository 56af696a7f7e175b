"""The edge of the component: WASI's HTTP on one side, plain functions on the other."""

import traceback

import page
import wit_world
from componentize_py_async_support import spawn
from componentize_py_async_support.streams import ByteStreamWriter
from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import greetings, log
from wit_world.imports.wasi_http_types import Fields, Method_Head, Request, Response


class Handler(exports.Handler):
    """What the world exports: componentize-py finds it by its name."""

    async def handle(self, request: Request) -> Response:
        """Answers one request."""
        target = request.get_path_with_query() or "/"
        try:
            status, html = page.respond(target, greetings.greet)
        except Exception:  # whatever went wrong, the reader gets a page, and the log the reason
            log.log(log.Level.ERROR, "site", traceback.format_exc(), [("target", target)])
            status, html = page.failure()
        log.log(log.Level.INFO, "site", "request", [("target", target), ("status", str(status))])
        return response_of(status, html.encode(), not isinstance(request.get_method(), Method_Head))


def response_of(status: int, content: bytes, whole: bool) -> Response:
    """A response whose body, if it is to have one, is written after it was returned."""
    fields = {"content-type": "text/html; charset=utf-8", "content-length": str(len(content))}
    headers = Fields.from_list([(name, value.encode()) for name, value in fields.items()])
    body = None
    if whole:
        writer, body = wit_world.byte_stream()
        spawn(send(writer, content))
    # no trailers follow the body
    _, trailers = wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future(
        lambda: Ok(None)
    )
    response, _ = Response.new(headers, body, trailers)
    response.set_status_code(status)
    return response


async def send(writer: ByteStreamWriter, content: bytes) -> None:
    """Writes the body."""
    with writer:
        await writer.write_all(content)
