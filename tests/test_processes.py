"""What threads, signals, forks and the end of the process do to calls."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import (
    DeadlineExceeded,
    ProviderError,
)
from tests.counters import SPIN, UNLIMITED, asking, counter, run, start
from tests.guests import HOST, Guest
from tests.soaking import Soak
from tests.wit_types import U32


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


@pytest.mark.parametrize("instances", ["per-call", 2])
def test_threads_share_a_host(host: loop.blocking.Host, instances: Any) -> None:
    meet = threading.Barrier(4)

    def ask() -> int:
        meet.wait()
        return threading.get_ident() & 0xFFFF

    app = host.load(counter().wasm(), asking(ask), limits=loop.Limits(instances=instances))

    def work() -> None:
        for _ in range(50):
            assert app.call("ask") == threading.get_ident() & 0xFFFF

    start(*[work] * 4)


def test_a_shared_instance_serves_one_thread_after_the_other(host: loop.blocking.Host) -> None:
    """Another thread's call waits: it is not made from within the call that runs."""
    inside, coming = threading.Event(), threading.Event()

    def ask() -> int:
        inside.set()
        coming.wait()
        return 5

    app = host.load(counter().wasm(), asking(ask), limits=loop.Limits(instances="shared"))

    def other() -> None:
        inside.wait()
        coming.set()
        app.call("next")

    for _ in range(50):
        inside.clear()
        coming.clear()
        start(lambda: app.call("ask"), other, other)
    assert app.call("next") == 101


def test_python_threads_run_while_a_guest_spins(host: loop.blocking.Host) -> None:
    app = host.load(Guest().exports("spin", [], None, SPIN).wasm(), limits=loop.Limits(deadline=0.3))
    done, steps = threading.Event(), 0

    def count() -> None:
        nonlocal steps
        while not done.is_set():
            steps += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = steps
    with pytest.raises(DeadlineExceeded):
        app.call("spin")
    after = steps
    done.set()
    thread.join()
    assert after - before > 1_000


def test_an_interrupt_stops_a_guest_that_spins(host: loop.blocking.Host) -> None:
    guest = Guest().imports("begun").exports("spin", [], None, "(call $begun)" + SPIN)

    def interrupt(*_: object) -> None:
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    app = host.load(guest.wasm(), {HOST: SimpleNamespace(begun=interrupt)}, limits=UNLIMITED)
    with pytest.raises(KeyboardInterrupt):
        app.call("spin")
    assert host.load(Guest().exports("n", [], U32, "(i32.const 3)").wasm()).call("n") == 3


def test_what_a_signal_handler_raises_is_raised(host: loop.blocking.Host) -> None:
    guest = Guest().imports("begun").exports("spin", [], None, "(call $begun)" + SPIN)

    def handler(*_: object) -> None:
        raise ZeroDivisionError("from the handler")

    def begun() -> None:
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1)).start()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        app = host.load(guest.wasm(), {HOST: SimpleNamespace(begun=begun)}, limits=UNLIMITED)
        # the signal may still arrive while the provider runs
        with pytest.raises((ZeroDivisionError, ProviderError), match="from the handler"):
            app.call("spin")
    finally:
        signal.signal(signal.SIGUSR1, before)


# ---- processes


STARTS = "(func $start %s) (start $start)"


@pytest.mark.parametrize("limits", ["deadline=0.05", "deadline=None, cpu=0.05"])
def test_a_start_function_that_never_ends(tmp_path: Path, limits: str) -> None:
    guest = Guest(code=STARTS % SPIN).exports("f", [], None, "nop")
    body = f"""
with loop.blocking.Host(cache=None) as host:
    app = host.load(wasm, limits=loop.Limits({limits}))
    try:
        app.call("f")
    except (DeadlineExceeded, LimitExceeded) as e:
        print(type(e).__name__)
"""
    done = run(tmp_path, body, guest, timeout=10)
    assert done.stdout.strip() in ("DeadlineExceeded", "LimitExceeded"), done.stderr


def test_use_after_fork_is_refused(tmp_path: Path) -> None:
    body = """
host = loop.blocking.Host(cache=None)
app = host.load(wasm, {HOST: SimpleNamespace(ask=lambda: 1, name=lambda: 1)})
exports = app.exports
app.call("next")
pid = os.fork()
if pid == 0:
    wrong = 0
    for use in (lambda: app.call("next"), lambda: host.load(wasm, {HOST: SimpleNamespace(ask=int, name=int)}),
                loop.blocking.Host, lambda: exports["test:guest/api"].next()):
        try:
            use()
            wrong += 1
        except ForkError as e:
            wrong += "spawn" not in str(e)
    os._exit(wrong)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), app.call("next"))
"""
    done = run(tmp_path, body, counter())
    assert (done.stdout, done.stderr, done.returncode) == ("0 1\n", "", 0)


def test_a_forked_child_that_leaves_us_alone_ends_well(tmp_path: Path) -> None:
    body = """
host = loop.blocking.Host(cache=None)
app = host.load(wasm, {HOST: SimpleNamespace(ask=lambda: 1, name=lambda: 1)}, limits=loop.Limits(instances=2))
app.call("next")
pid = os.fork()
if pid == 0:
    host.close()
    del app, host
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = run(tmp_path, body, counter())
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_spawned_processes_work(tmp_path: Path) -> None:
    body = """
def work(n):
    with loop.blocking.Host(cache=None) as host:
        app = host.load(wasm, {HOST: SimpleNamespace(ask=lambda: n, name=lambda: 1)})
        return app.call("ask")
if __name__ == "__main__":
    with loop.blocking.Host(cache=None) as host:
        host.load(wasm, {HOST: SimpleNamespace(ask=int, name=int)}).call("next")
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            print(pool.map(work, range(4)))
"""
    done = run(tmp_path, body, counter())
    assert (done.stdout, done.returncode) == ("[0, 1, 2, 3]\n", 0), done.stderr


SPINS = Guest(code=f"(func $spin {SPIN})").imports("begun")
SPINS.exports("spin", [], None, "(call $begun) (call $spin)")
SPINS.exports("wait", [], None, "(call $begun)")
FLIGHT = """
begun, never = threading.Event(), threading.Event()
provider = SimpleNamespace(begun=%s)
host = loop.blocking.Host(cache=None)
app = host.load(wasm, {HOST: provider}, limits=loop.Limits(deadline=None, cpu=None))
threading.Thread(target=app.call, args=(%r,), daemon=True).start()
begun.wait()
%s
"""


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "host.close()", "del app, host"])
@pytest.mark.parametrize(
    ("provider", "export"),
    [("begun.set", "spin"), ("lambda: (begun.set(), never.wait())", "wait")],
    ids=["a guest spins", "a provider waits"],
)
def test_the_process_ends_with_a_call_in_flight(
    tmp_path: Path, provider: str, export: str, ending: str, soak: Soak
) -> None:
    times = soak(1, 50)
    soak.note(processes=times)
    for _ in range(times):
        done = run(tmp_path, FLIGHT % (provider, export, ending), SPINS, timeout=30)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_an_interrupted_process_ends(tmp_path: Path) -> None:
    body = """
def begun():
    threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
host = loop.blocking.Host(cache=None)
app = host.load(wasm, {HOST: SimpleNamespace(begun=begun)}, limits=loop.Limits(deadline=None, cpu=None))
app.call("spin")
"""
    done = run(tmp_path, body, SPINS, timeout=30)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
