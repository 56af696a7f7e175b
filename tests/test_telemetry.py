"""What components and providers tell of themselves, from where it happens to a collector."""

from __future__ import annotations

import gzip
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import loop_kit as loop
from loop_kit import manifest, otel, telemetry, testing
from loop_kit.capabilities.core import Core
from loop_kit.errors import CallError
from loop_kit.workspace import Workspace
from tests.checkout import ROOT
from tests.telling import Next, guest

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = ABOVE.split("-")[1]
CORES: dict[str, Any] = {
    "native": lambda **grant: loop.builtin("core", **grant),
    "python": lambda **grant: Core(grant=grant),
}


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest) -> Any:
    return CORES[request.param]


async def test_spans_of_component_and_provider_are_one_below_the_other(core: Any) -> None:
    async with loop.Host() as host:
        app = await host.load(guest(), {"loop:core": core(), "test:telling/next": Next()})
        with testing.collect() as told, loop.traced(ABOVE):
            assert await app.call("work", "hello") == "HELLO"
            assert await app.call("current") == ABOVE
    check_chain(told)


def test_the_blocking_host_does_the_same(core: Any) -> None:
    with loop.blocking.Host() as host:
        app = host.load(guest(), {"loop:core": core(), "test:telling/next": Next()})
        with testing.collect() as told, loop.traced(ABOVE):
            assert app.call("work", "hello") == "HELLO"
            assert app.call("current") == ABOVE
        assert app.call("current") is None
    check_chain(told)


def check_chain(told: testing.Collected) -> None:
    work, answer = told.span("work hello"), told.span("answer")
    assert [span.name for span in told.spans] == ["answer", "work hello"]  # as they ended
    assert (work.trace_id, work.parent, work.kind, work.status) == (TRACE, ABOVE, "client", "ok")
    assert (work.attributes, work.dropped) == ({"words": "hello"}, 0)
    assert [(e.name, e.attributes) for e in work.events] == [("asked", {"times": 1})]
    assert (answer.trace_id, answer.parent_id, answer.kind) == (TRACE, work.span_id, "server")
    assert work.start <= answer.start <= answer.end
    assert work.start <= work.events[0].time <= work.end
    (record,) = told.logs
    assert (record.getMessage(), record.name) == ("on it words=hello", "loop_kit.guest.telling")
    trace: bytes = vars(record)["trace"]
    assert trace[:24].hex() == work.trace_id + work.span_id
    counted, measured = told.measurements
    assert (counted.instrument, counted.name, counted.value) == ("counter", "words", 1)
    assert (counted.unit, counted.attributes) == ("By", {"first": "h"})
    assert (measured.instrument, measured.name, measured.value) == ("histogram", "length", 5)


async def test_a_component_between_carries_the_trace_on(core: Any) -> None:
    async with loop.Host() as host:
        inner = await host.load(guest(), {"loop:core": core(), "test:telling/next": Next()})

        class Between:
            """Hands on: the guest exports `work` at its root, not as an interface."""

            async def go(self, words: str) -> str:
                return str(await inner.call("work", f"inner {words}"))

        outer = await host.load(guest(), {"loop:core": core(), "test:telling/next": Between()})
        with testing.collect() as told:
            assert await outer.call("work", "x") == "INNER X"
    top, within, answer = told.span("work x"), told.span("work inner x"), told.span("answer")
    assert (top.parent, answer.parent_id) == (None, within.span_id)
    assert within.trace_id == answer.trace_id == top.trace_id


async def test_a_span_is_current_until_it_ends(core: Any) -> None:
    async with loop.Host() as host:
        app = await host.load(guest(), {"loop:core": core(), "test:telling/next": Next()})
        with testing.collect() as told:
            first, second, at_first, after_first, after_both = await app.call("crossed")
    assert (at_first, after_first, after_both) == (second, second, "")
    assert told.span("second").parent == first


async def test_a_failure_is_told_by_every_span(core: Any) -> None:
    async with loop.Host() as host:
        app = await host.load(guest(), {"loop:core": core(), "test:telling/next": Next()})
        with testing.collect() as told, pytest.raises((CallError, loop.LoopError)):
            await app.call("work", "fail")
    answer = told.span("answer")
    assert (answer.status, answer.reason) == ("error", "RuntimeError: not today")


async def test_nobody_listens_and_nothing_is_kept(core: Any) -> None:
    """The context is carried all the same."""
    seen = []

    class Looks:
        def go(self, words: str) -> str:
            seen.append(loop.invocation().trace)
            return words

    async with loop.Host() as host:
        app = await host.load(guest(), {"loop:core": core(), "test:telling/next": Looks()})
        with loop.traced(ABOVE):
            await app.call("work", "x")
        await app.call("work", "x")
    assert [trace is not None and trace.split("-")[1] == TRACE for trace in seen] == [True, False]
    assert (seen[0] or "").split("-")[2] != ABOVE.split("-")[2]
    assert (seen[1] or "").endswith("-00")


def test_what_a_listener_raises_harms_nobody(core: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("in a listener")

    with loop.blocking.Host() as host:
        app = host.load(guest(), {"loop:core": core(), "test:telling/next": Next()})
        with telemetry.listen(on_span=fail, on_measurement=fail), testing.collect() as told:
            assert app.call("work", "x") == "X"
    assert len(told.spans) == 2
    assert "in a listener" in capsys.readouterr().err


def test_a_grant_bounds_what_is_told(core: Any) -> None:
    bounds = {"trace": {"text": 4, "events": 1, "attributes": 1}, "metrics": {"series": 1, "text": 4}}
    with loop.blocking.Host() as host:
        app = host.load(guest(), {"loop:core": core(**bounds), "test:telling/next": Next()})
        with testing.collect() as told:
            app.call("work", "hello")
    work = told.span("work")
    assert work.attributes == {"word": "hell"}
    assert [m.attributes for m in told.measurements] == [{"firs": "h"}, {"otel.metric.overflow": True}]


# ---- to a collector


class Collector:
    """A receiver of OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.metrics: list[Any] = []
        self.logs: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        match path:
            case "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    said = {a.key: a.value.string_value for a in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        self.spans += [(said["service.name"], span) for span in scope.spans]
            case "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        self.metrics += scope.metrics
            case "/v1/logs":
                for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                    for scope in resource.scope_logs:
                        self.logs += scope.log_records

    def span(self, name: str) -> tuple[str, Any]:
        (found,) = [(service, span) for service, span in self.spans if span.name == name]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()


LOOP = """
[components.app]
path = "app.wasm"
[components.app.imports]
"loop:core".provider = "core"
"test:telling/next".provider = "next"
[providers.core]
use = "builtin:core"
[providers.next]
use = "sidecar:python:tests.telling:Next"
env = {{ PYTHONPATH = "{path}", OTEL_EXPORTER_OTLP_ENDPOINT = "{endpoint}", OTEL_SERVICE_NAME = "next" }}
"""


async def test_all_of_it_arrives_at_a_collector(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a component, and of the sidecar that it calls, which exports by itself."""
    caplog.set_level(logging.INFO, "loop_kit.guest")

    (tmp_path / "app.wasm").write_bytes(guest())
    with collecting() as collector:
        text = LOOP.format(path=ROOT, endpoint=collector.endpoint)
        declared = manifest.loads(text, tmp_path / "loop.toml")
        with otel.export(collector.endpoint, service="host") as export:
            async with loop.Host() as host, Workspace(host, declared) as workspace:
                app = await workspace.load("app")
                with telemetry.span("request", "server", route="/"):
                    assert await app.call("work", "hello") == "HELLO"
            export.flush()
    (of_host, request), (of_app, work), (of_next, answer) = map(
        collector.span, ("request", "work hello", "answer")
    )
    assert (of_host, of_app, of_next) == ("host", "host", "next")
    assert (work.parent_span_id, answer.parent_span_id) == (request.span_id, work.span_id)
    assert work.trace_id == answer.trace_id == request.trace_id
    assert (work.kind, answer.kind, request.parent_span_id) == (3, 2, b"")
    assert [event.name for event in work.events] == ["asked"]
    assert work.start_time_unix_nano <= answer.start_time_unix_nano <= answer.end_time_unix_nano
    named = {metric.name: metric for metric in collector.metrics}
    (count,) = named["words"].sum.data_points
    (length,) = named["length"].histogram.data_points
    assert (count.as_double or count.as_int, length.count, length.sum) == (1, 1, 5)
    (record,) = collector.logs
    assert (record.body.string_value, record.trace_id, record.span_id) == (
        "on it",
        work.trace_id,
        work.span_id,
    )
    assert {a.key: a.value.string_value for a in record.attributes} == {
        "words": "hello",
        "log.target": "telling",
    }


def test_an_export_that_ended_takes_no_more() -> None:
    with collecting() as collector:
        export = otel.export(collector.endpoint, service="host")
        with telemetry.span("first"):
            pass
        export.close()
        export.close()
        with telemetry.span("second"):
            pass
        assert [span.name for _, span in collector.spans] == ["first"]


def test_opentelemetrys_own_tracers_go_on_from_where_we_are() -> None:
    from opentelemetry import trace

    with loop.traced(ABOVE):
        found = trace.get_current_span(otel.parent()).get_span_context()
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == tuple(ABOVE.split("-")[1:3])
    assert not trace.get_current_span(otel.parent()).get_span_context().is_valid


# ---- time


async def test_an_hour_of_work_takes_a_moment() -> None:
    async with loop.Host() as host:
        clock = await testing.virtual_clock(host, run=True)
        for _ in range(6):
            await clock.app.call("sleep", 600 * 10**9)
        assert (await clock.elapsed(), await clock.waiting(), await clock.next()) == (3600, 0, None)
        await clock.run(False)
        await clock.advance("90m")
        assert await clock.elapsed() == 3600 + 5400
