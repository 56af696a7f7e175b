"""Event loops: asyncio's and uvloop's, closed early, with calls in flight, one too many, or none at all."""

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

import loop_kit as loop
from loop_kit.errors import DeadlineExceeded, HostClosed, LoopError, Overloaded
from tests.async_guests import asking, plain
from tests.counters import SPIN
from tests.guests import HOST, Guest
from tests.soaking import Soak
from tests.stream_guests import pumping
from tests.wit_types import U8, U32

FUNC = {"func": plain().wasm(), "async func": asking().wasm()}
PUMP = pumping(U8).wasm()
SPINNING = Guest().exports("spin", [], None, SPIN).exports("one", [], U32, "(i32.const 1)").wasm()
each_kind = pytest.mark.parametrize("kind", FUNC)
each_instance = pytest.mark.parametrize("instances", ["per-call", 2, "shared"])
each_loop = pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
Factory = Callable[[], asyncio.AbstractEventLoop]


def run(factory: Factory, case: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(soon(case))


async def soon(case: Awaitable[Any]) -> Any:
    async with asyncio.timeout(5):
        return await case


def providing(get: Any, now: Any = lambda n: n) -> dict[str, Any]:
    return {HOST: SimpleNamespace(get=get, now=now, check=lambda n: n)}


async def load(host: loop.Host, kind: str, instances: Any, get: Any, **limits: Any) -> loop.App:
    return await host.load(FUNC[kind], providing(get), limits=loop.Limits(instances=instances, **limits))


def task(call: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(call)


async def doubled(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


# ---- both loops


@each_loop
@each_kind
@each_instance
def test_calls(factory: Factory, kind: str, instances: Any) -> None:
    async def case() -> None:
        async with loop.Host(cache=None) as host:
            app = await load(host, kind, instances, doubled)
            assert await app.call("ask", 3) == 6
            calls = [app.call("ask", n) for n in range(100)]
            assert await asyncio.gather(*calls) == [2 * n for n in range(100)]

    run(factory, case())


@each_loop
@each_kind
@each_instance
def test_answers_from_another_thread(factory: Factory, kind: str, instances: Any) -> None:
    async def case() -> None:
        async with loop.Host(cache=None) as host:
            app = await load(host, kind, instances, through_a_thread)
            calls = [app.call("ask", n) for n in range(20)]
            assert await asyncio.gather(*calls) == [2 * n for n in range(20)]

    run(factory, case())


async def through_a_thread(n: int) -> int:
    return await asyncio.to_thread(lambda: 2 * n)


@each_loop
@each_kind
@each_instance
def test_a_deadline_while_a_provider_waits(factory: Factory, kind: str, instances: Any) -> None:
    """Only the timer's own thread can wake the loop here."""
    ended: list[str] = []

    async def get(_: int) -> int:
        try:
            return await asyncio.Event().wait()
        finally:
            ended.append("finally")

    async def case() -> None:
        async with loop.Host(cache=None) as host:
            app = await load(host, kind, instances, get, deadline=0.05, cancel_grace=0.05)
            with pytest.raises(DeadlineExceeded):
                await app.call("ask", 1)
            assert await app.call("same", 1) == 1
        assert ended == ["finally"]

    run(factory, case())


@each_loop
@each_instance
def test_streams(factory: Factory, instances: Any) -> None:
    async def produce() -> Any:
        for n in range(100):
            await asyncio.sleep(0)
            yield bytes([n]) * n

    async def case() -> None:
        async with loop.Host(cache=None) as host:
            provider = SimpleNamespace(wrote=lambda *_: None)
            limits = loop.Limits(instances=instances)
            app = await host.load(PUMP, {HOST: provider}, limits=limits)
            got = b"".join([chunk async for chunk in await app.call("pump", produce(), 64)])
            assert got == b"".join(bytes([n]) * n for n in range(100))

    run(factory, case())


@each_loop
@each_kind
def test_hosts_come_and_go(factory: Factory, kind: str) -> None:
    async def case() -> None:
        for _ in range(10):
            async with loop.Host(cache=None) as one, loop.Host(cache=None) as two:
                apps = [await load(h, kind, "shared", doubled) for h in (one, two)]
                assert await asyncio.gather(*(a.call("ask", 2) for a in apps)) == [4, 4]

    run(factory, case())


# ---- closing


@each_loop
@each_kind
@each_instance
def test_a_host_closed_with_calls_in_flight(factory: Factory, kind: str, instances: Any, soak: Soak) -> None:
    """Every call ends, by an error of ours; every provider is cancelled."""
    began, ended = 0, 0

    async def get(_: int) -> int:
        nonlocal began, ended
        began += 1
        try:
            return await asyncio.Event().wait()
        finally:
            ended += 1

    async def case() -> None:
        host = loop.Host(cache=None)
        app = await load(host, kind, instances, get)
        calls = [task(app.call("ask", n)) for n in range(4)]
        while not began:
            await asyncio.sleep(0)
        await host.aclose()
        done, pending = await asyncio.wait(calls, timeout=5)
        for call in pending:
            call.cancel()
        assert not pending
        for call in done:
            assert isinstance(call.exception(), LoopError)
        assert began == ended

    times = soak(1, 200)
    soak.note(hosts=times)
    for _ in range(times):
        began = ended = 0
        run(factory, case())


@each_kind
@each_instance
async def test_a_closed_host_refuses(kind: str, instances: Any) -> None:
    host = loop.Host(cache=None)
    app = await load(host, kind, instances, doubled)
    assert await app.call("ask", 1) == 2
    fresh = app.call("ask", 1)
    await host.aclose()
    await host.aclose()
    for use in (lambda: app.call("ask", 1), lambda: fresh, lambda: app.call("same", 1)):
        with pytest.raises(HostClosed):
            await soon(use())
    with pytest.raises(HostClosed):
        await load(host, kind, instances, doubled)
    with pytest.raises(HostClosed):
        async with host:
            pass


async def test_a_provider_that_closes_its_host() -> None:
    for kind in FUNC:
        host = loop.Host(cache=None)

        async def get(n: int, host: loop.Host = host) -> int:
            await host.aclose()
            return n

        app = await load(host, kind, "per-call", get)
        got = await soon(asyncio.gather(app.call("ask", 1), return_exceptions=True))
        assert got[0] == 1 or isinstance(got[0], HostClosed)


@each_loop
@each_kind
@each_instance
def test_a_loop_that_closes_early(factory: Factory, kind: str, instances: Any) -> None:
    """The host is never closed, and a call is still waiting when the loop goes."""
    ended: list[int] = []

    async def get(n: int) -> int:
        try:
            return await asyncio.Event().wait()
        finally:
            ended.append(n)

    kept: list[Any] = []

    async def case() -> None:
        host = loop.Host(cache=None)
        app = await load(host, kind, instances, get)
        kept.extend([host, app, task(app.call("ask", 1))])
        await asyncio.sleep(0.01)

    run(factory, case())
    assert ended == [1]
    kept.clear()
    gc.collect()


@each_loop
@each_kind
def test_another_loop(factory: Factory, kind: str) -> None:
    """A host belongs to the loop that first used it, though that one is closed."""
    kept: list[Any] = []

    async def first() -> None:
        host = loop.Host(cache=None)
        kept.extend([host, await load(host, kind, "shared", doubled)])
        assert await kept[1].call("ask", 1) == 2

    async def second() -> None:
        host, app = kept
        with pytest.raises(HostClosed, match="another event loop"):
            await load(host, kind, "shared", doubled)
        with pytest.raises(HostClosed, match="another event loop"):
            async with host:
                pass
        with pytest.raises(LoopError, match="another event loop"):
            await app.call("ask", 1)
        with contextlib.suppress(LoopError, RuntimeError):
            await host.aclose()

    run(factory, first())
    run(factory, second())


@each_kind
def test_a_call_from_another_threads_loop(kind: str) -> None:
    """An error, not a hang and not a crash; the host's own loop goes on."""
    got: list[Any] = []

    async def case() -> None:
        async with loop.Host(cache=None) as host:
            app = await load(host, kind, "shared", doubled)

            async def wrong() -> Any:
                return await app.call("ask", 1)

            def elsewhere() -> None:
                try:
                    got.append(asyncio.run(asyncio.wait_for(wrong(), 5)))
                except BaseException as e:
                    got.append(e)

            await asyncio.to_thread(elsewhere)
            assert await app.call("ask", 4) == 8

    run(asyncio.new_event_loop, case())
    assert isinstance(got[0], LoopError), got


# ---- no loop


@each_kind
@each_instance
def test_the_blocking_host_runs_asynchronous_providers(kind: str, instances: Any) -> None:
    with loop.blocking.Host(cache=None) as host:
        limits = loop.Limits(instances=instances)
        app = host.load(FUNC[kind], providing(doubled), limits=limits)
        assert [app.call("ask", n) for n in range(10)] == [2 * n for n in range(10)]
        assert app.exports["test:guest/api"].same(3) == 3
    with pytest.raises(HostClosed):
        app.call("ask", 1)


@each_kind
@each_instance
def test_threads_of_the_blocking_host(kind: str, instances: Any) -> None:
    with loop.blocking.Host(cache=None) as host:
        limits = loop.Limits(instances=instances)
        app = host.load(FUNC[kind], providing(doubled), limits=limits)
        wrong: list[Any] = []

        def work(start: int) -> None:
            try:
                wrong.extend(n for n in range(start, start + 50) if app.call("ask", n) != 2 * n)
            except BaseException as e:
                wrong.append(e)

        threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert wrong == []


@each_kind
def test_a_blocking_call_within_an_asynchronous_provider(kind: str) -> None:
    """The loop that it would wait for is the one it runs on."""

    async def get(n: int) -> int:
        return int(app.call("same", n))

    with loop.blocking.Host(cache=None) as host:
        app = host.load(FUNC[kind], providing(get))
        with pytest.raises((LoopError, RuntimeError)):
            app.call("ask", 1)
        assert app.call("same", 2) == 2


def test_the_blocking_host_closes_while_another_thread_calls() -> None:
    inside = threading.Event()
    got: list[BaseException] = []

    async def get(_: int) -> int:
        inside.set()
        return await asyncio.Event().wait()

    host = loop.blocking.Host(cache=None)
    app = host.load(FUNC["async func"], providing(get), limits=loop.Limits(deadline=20))

    def call() -> None:
        try:
            app.call("ask", 1)
        except BaseException as e:
            got.append(e)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    assert inside.wait(10)
    closing = threading.Thread(target=host.close, daemon=True)
    closing.start()
    closing.join(5)
    thread.join(5)
    assert not closing.is_alive()
    assert isinstance(got[0], (LoopError, asyncio.CancelledError))


# ---- processes


SCRIPT = """
import asyncio, os, signal, sys, threading
from types import SimpleNamespace
import loop_kit as loop
wasm = open({wasm!r}, "rb").read()
async def get(n):
    {get}
async def main():
    {main}
    app = await host.load(wasm, {{{host!r}: SimpleNamespace(get=get, now=now, check=get)}})
    {then}
def now(n):
    {now}
    return n
{run}
"""


def script(tmp_path: Path, kind: str, **parts: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "guest.wasm").write_bytes(FUNC[kind])
    texts = {
        "get": "await asyncio.Event().wait()",
        "main": "host = loop.Host(cache=None)",
        "now": "pass",
        "run": "asyncio.run(main())",
        **parts,
    }
    text = SCRIPT.format(wasm=str(tmp_path / "guest.wasm"), host=HOST, **texts)
    (tmp_path / "script.py").write_text(text)
    command = [sys.executable, "-X", "faulthandler", "-W", "error", str(tmp_path / "script.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


IN_FLIGHT = (
    "global task; task = asyncio.create_task(app.call('ask', 1)); await asyncio.sleep(0.01); print('flying')"
)
ENDINGS = ["", "; sys.exit(7)", "; global keep; keep = (host, app)", "; await host.aclose()"]


@each_kind
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_ends_with_a_call_in_flight(tmp_path: Path, kind: str, ending: str) -> None:
    done = script(tmp_path, kind, then=IN_FLIGHT + ending)
    assert done.returncode == (7 if "exit" in ending else 0), done.stderr
    assert done.stdout == "flying\n"
    assert "panicked" not in done.stderr


@each_kind
def test_the_process_ends_without_its_loop(tmp_path: Path, kind: str) -> None:
    """The loop is neither run to an end nor closed."""
    run = "ours = asyncio.new_event_loop(); ours.run_until_complete(main()); del ours"
    done = script(tmp_path, kind, then=IN_FLIGHT, run=run)
    assert (done.stdout, done.returncode) == ("flying\n", 0), done.stderr
    assert "panicked" not in done.stderr


INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"


@each_kind
@pytest.mark.parametrize("where", ["a provider waits", "the guest computes"])
def test_an_interrupt_ends_the_process(tmp_path: Path, kind: str, where: str) -> None:
    """Ctrl-C cancels the main task: `async with` closes the host, and Python ends as it does by itself."""
    waits = where == "a provider waits"
    done = script(
        tmp_path,
        kind,
        get=f"{INTERRUPT}\n    try: await asyncio.Event().wait()\n    finally: print('finally')",
        now="threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()",
        then=f"""
    async with host:
        await app.call({"'ask', 1" if waits else "'spin'"})
""",
    )
    assert done.returncode in (130, -2), done.stderr
    assert done.stdout == ("finally\n" if waits else "")
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "panicked" not in done.stderr


async def test_a_guest_that_needs_nothing_of_python_computes_beside_the_loop() -> None:
    async with loop.Host(cache=None) as host:
        app = await host.load(SPINNING, limits=loop.Limits(deadline=0.5))
        here, everywhere = time.thread_time(), time.process_time()
        with pytest.raises(DeadlineExceeded):
            await app.call("spin")
        here, everywhere = time.thread_time() - here, time.process_time() - everywhere
    assert here < everywhere / 2


async def test_it_ends_when_its_caller_does() -> None:
    async with loop.Host(cache=None) as host:
        app = await host.load(SPINNING, limits=loop.Limits(deadline=60, concurrent_calls=1))
        for _ in range(3):
            call = task(app.call("spin"))
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            # its instance goes once the guest next looks up
            async with asyncio.timeout(5):
                while True:
                    with contextlib.suppress(Overloaded):
                        assert await app.call("one") == 1
                        break
                    await asyncio.sleep(0)
