"""Nothing stays behind: apps, instances and hosts that are let go give back what they took.

An engine has room for 1,000 instances, and reserves so much address space that some thirty fit into a
process. Each test runs in a process of its own, which it would leave unusable.
"""

from pathlib import Path

import pytest

from tests.counters import counter, run
from tests.guests import API, HOST, Guest
from tests.soaking import Soak
from tests.stream_guests import pumping
from tests.test_resources import things
from tests.wit_types import U8, U32

INSTANCES = ["'per-call'", "'shared'", "2"]
N = Guest().exports("n", [], U32, "(i32.const 5)")
# Defines `resident()`: bytes of memory.
RESIDENT = """
import gc
def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""


@pytest.mark.parametrize("instances", INSTANCES)
def test_instances_go_with_their_app(tmp_path: Path, instances: str, soak: Soak) -> None:
    loads = soak(1_100, 10_000)
    body = f"""{RESIDENT}
with loop.blocking.Host(cache=None) as host:
    for n in range({loads}):
        if n == 1_000:
            before = resident()
        assert host.load(wasm, limits=loop.Limits(instances={instances})).call("n") == 5
print(before, resident())
"""
    done = run(tmp_path, body, N, timeout=soak.timeout)
    assert (done.stderr, done.returncode) == ("", 0)
    before, after = map(int, done.stdout.split())
    soak.note(loads=loads, rss_before=before, rss_after=after)
    assert after - before < 2 << 20


@pytest.mark.parametrize("instances", INSTANCES)
def test_hosts_go_with_their_threads(tmp_path: Path, instances: str) -> None:
    body = f"""
for _ in range(60):
    with loop.blocking.Host(cache=None) as host:
        assert host.load(wasm, limits=loop.Limits(instances={instances})).call("n") == 5
assert len(os.listdir("/proc/self/task")) < 30
"""
    done = run(tmp_path, body, N)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("instances", INSTANCES)
def test_instances_go_with_their_last_resource(tmp_path: Path, instances: str) -> None:
    body = f"""
with loop.blocking.Host(cache=None) as host:
    api = host.load(wasm, limits=loop.Limits(instances={instances})).exports[{API!r}]
    for n in range(1100):
        assert api.Thing(n).get() == n
"""
    done = run(tmp_path, body, things())
    assert (done.stderr, done.returncode) == ("", 0)


def test_instances_go_with_a_trap(tmp_path: Path) -> None:
    body = f"""
with loop.blocking.Host(cache=None) as host:
    for instances in ("per-call", "shared", 2):
        api = host.load(wasm, limits=loop.Limits(instances=instances)).exports[{API!r}]
        for n in range(1100):
            thing = api.Thing(n)
            try:
                api.boom()
            except GuestTrap:
                pass
"""
    done = run(tmp_path, body, things())
    assert (done.stderr, done.returncode) == ("", 0)


def test_calls_keep_memory_flat(tmp_path: Path, soak: Soak) -> None:
    rounds = soak(50_000, 500_000)
    body = f"""{RESIDENT}
provider = SimpleNamespace(ask=lambda: 1, name=lambda: 1)
with loop.blocking.Host(cache=None) as host:
    for instances in ("per-call", "shared", 2):
        app = host.load(wasm, {{HOST: provider}}, limits=loop.Limits(instances=instances))
        def rounds(count):
            for _ in range(count):
                app.call("ask")
                app.call("next")
        rounds(2_000)
        before = resident()
        rounds({rounds})
        print(instances, before, resident())
"""
    done = run(tmp_path, body, counter(), timeout=soak.timeout)
    assert (done.stderr, done.returncode) == ("", 0)
    for line in done.stdout.splitlines():
        instances, before, after = line.split()
        soak.note(instances=instances, calls=2 * rounds, rss_before=int(before), rss_after=int(after))
        assert int(after) - int(before) < 2 << 20, line


KNOWS_ITS_APP = """
class Provider:
    def __init__(self):
        self.app = None
    def ask(self):
        return 1
    name = ask
"""


def test_a_provider_that_knows_its_app_goes_with_it(tmp_path: Path) -> None:
    """The collector finds such circles, though they pass through the engine."""
    body = f"""
import gc
{KNOWS_ITS_APP}
with loop.blocking.Host(cache=None) as host:
    for instances in ("per-call", "shared", 2):
        for _ in range(400):
            provider = Provider()
            provider.app = host.load(wasm, {{HOST: provider}}, limits=loop.Limits(instances=instances))
            assert provider.app.call("ask") == 1
        gc.collect()
"""
    done = run(tmp_path, body, counter())
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_closed_host_goes_though_its_providers_stay(tmp_path: Path) -> None:
    body = f"""
{KNOWS_ITS_APP}
kept = []
for _ in range(60):
    provider = Provider()
    with loop.blocking.Host(cache=None) as host:
        provider.app = host.load(wasm, {{HOST: provider}})
        assert provider.app.call("ask") == 1
    del host
    kept.append(provider.ask)
assert len(os.listdir("/proc/self/task")) < 100
"""
    done = run(tmp_path, body, counter())
    assert (done.stderr, done.returncode) == ("", 0)


def test_hosts_go_with_the_classes_of_their_resources(tmp_path: Path) -> None:
    body = f"""
import gc
for _ in range(60):
    with loop.blocking.Host(cache=None) as host:
        api = host.load(wasm).exports[{API!r}]
        assert api.Thing(5).get() == 5
    gc.collect()
assert len(os.listdir("/proc/self/task")) < 30
"""
    done = run(tmp_path, body, things())
    assert (done.stderr, done.returncode) == ("", 0)


def test_hosts_go_with_the_errors_of_their_streams(tmp_path: Path) -> None:
    """The error knows the frames that knew the stream, whose instance knows the error."""
    body = f"""
import asyncio, gc
async def fails():
    yield b"abc"
    raise ZeroDivisionError
async def main():
    async with loop.Host(cache=None) as host:
        app = await host.load(wasm, {{{HOST!r}: SimpleNamespace(wrote=lambda *_: None)}})
        stream = await app.call("pump", fails(), 3)
        try:
            async for _ in stream:
                pass
        except loop.errors.ProviderError as error:
            assert isinstance(error.__cause__, ZeroDivisionError)
        else:
            raise AssertionError("no error")
for _ in range(60):
    asyncio.run(main())
    gc.collect()
assert len(os.listdir("/proc/self/task")) < 30
"""
    done = run(tmp_path, body, pumping(U8).wasm())
    assert (done.stderr, done.returncode) == ("", 0)
