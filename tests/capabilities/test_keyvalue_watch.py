"""`wasi:keyvalue/watcher`: components that are called for what changes in a bucket, whoever changes it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

import loop_kit as loop
from loop_kit import manifest
from loop_kit.capabilities.keyvalue import KeyValue, NatsKeyValue, _jetstream, watch
from loop_kit.capabilities.keyvalue._server import running
from loop_kit.errors import LoadError, ManifestError
from loop_kit.workspace import Workspace
from tests.capabilities.test_keyvalue_nats import started
from tests.nats import serving

GUESTS = Path(__file__).parent / "guests"
GUEST = GUESTS / "keyvalue-draft.wasm"
GRANT = {"buckets": {name: {"mode": "rw"} for name in ("jobs", "seen", "default")}}


def config(tmp_path: Path) -> dict[str, str]:
    """Buckets of a test's own."""
    return {"url": running(), "prefix": f"{abs(hash(tmp_path))}-"}


@pytest.fixture
async def raw() -> AsyncIterator[Any]:
    """Another client of the server."""
    connected = await nats.connect(running())
    yield connected.jetstream()
    await connected.close()


async def seen(kv: NatsKeyValue, count: int) -> list[str]:
    """The changes that the component has noted, once there are so many."""
    bucket = await kv.open("seen")
    async with asyncio.timeout(60):
        while (await bucket.get("count") or b"0") != str(count).encode() or not await bucket.exists(
            str(count)
        ):
            await asyncio.sleep(0.01)
    notes = await bucket.get_many([str(number) for number in range(1, count + 1)])
    return [note[1].decode() for note in notes if note]


async def test_a_component_is_told_what_anybody_changes(tmp_path: Path, raw: Any) -> None:
    given = config(tmp_path)
    async with (
        loop.Host(cache=tmp_path) as host,
        NatsKeyValue(config=given, grant=GRANT) as kv,
        NatsKeyValue(config=given, grant=GRANT) as elsewhere,
    ):
        await (await kv.open("jobs")).set("before", b"is not told")
        app = await host.load(GUEST, {"wasi:keyvalue": kv})
        async with watch(app, kv, "jobs", "jobs") as watching:
            jobs = await elsewhere.open("jobs")
            await jobs.set("é", b"a")
            assert await seen(kv, 1) == ["set é [97], now Some([97])"]
            await jobs.delete("é")
            assert (await seen(kv, 2))[1:] == ["deleted é, now None"]
            # the component's own host, too
            await (await kv.open("jobs")).set("k", b"")
            assert (await seen(kv, 3))[2:] == ["set k [], now Some([])"]
            assert watching.failed == 0
        # nothing is left on the server, and nothing is told once it is over
        info = await raw.stream_info(f"KV_{given['prefix']}jobs")
        assert info.state.consumer_count == 0
        await jobs.set("after", b"")
        async with watch(app, kv, "jobs"):
            await jobs.set("again", b"")
            assert (await seen(kv, 4))[3:] == ["set again [], now Some([])"]


async def test_another_process_is_seen(tmp_path: Path) -> None:
    given = config(tmp_path)
    code = f"""
import asyncio
from loop_kit.capabilities.keyvalue import NatsKeyValue

async def main():
    async with NatsKeyValue(config={given!r}, grant={GRANT!r}) as kv:
        jobs = await kv.open("jobs")
        for number in range(50):
            await jobs.set(f"k{{number}}", b"v")

asyncio.run(main())
"""
    async with loop.Host(cache=tmp_path) as host, NatsKeyValue(config=given, grant=GRANT) as kv:
        app = await host.load(GUEST, {"wasi:keyvalue": kv})
        async with watch(app, kv, "jobs"):
            await asyncio.to_thread(subprocess.check_call, [sys.executable, "-c", code])
            notes = await seen(kv, 50)
            assert notes == [f"set k{number} [118], now Some([118])" for number in range(50)]


async def test_what_changes_faster_than_it_is_told_is_told_as_it_ends(tmp_path: Path) -> None:
    """The server keeps what waits: the last change of each key, and nothing is held here."""
    given = config(tmp_path)
    async with loop.Host(cache=tmp_path) as host, NatsKeyValue(config=given, grant=GRANT) as kv:
        app = await host.load(GUEST, {"wasi:keyvalue": kv})
        jobs = await kv.open("jobs")
        async with watch(app, kv, "jobs") as watching:
            await asyncio.gather(*(jobs.set("k", str(number).encode()) for number in range(500)))
            await jobs.set("k", b"end")
            await jobs.set("last", b"")
            noted = await kv.open("seen")
            async with asyncio.timeout(60):
                while watching.told == 0 or not (await noted.get(str(watching.told)) or b"").startswith(
                    b"set last "
                ):
                    await asyncio.sleep(0.01)
            assert (watching.told <= 502, watching.failed) == (True, 0)
            notes = await seen(kv, watching.told)
            assert notes[-2] == f"set k {[*b'end']}, now Some({[*b'end']})"


async def test_a_call_that_fails_is_logged_and_the_next_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = config(tmp_path)
    async with loop.Host(cache=tmp_path) as host, NatsKeyValue(config=given, grant=GRANT) as kv:
        app = await host.load(GUEST, {"wasi:keyvalue": kv})
        jobs = await kv.open("jobs")
        with caplog.at_level(logging.WARNING, "loop_kit.keyvalue"):
            async with watch(app, kv, "jobs") as watching:
                await jobs.set("trap", b"")
                await jobs.set("k", b"")
                assert await seen(kv, 1) == ["set k [], now Some([])"]
                assert watching.failed == 1
        (record,) = caplog.records
        assert record.getMessage().startswith("the watcher of the bucket `jobs` failed at a key: ")


async def test_it_goes_on_where_it_was_after_a_server_came_back(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        port = int(address.rpartition(":")[2])
    server = started(tmp_path / "js", port)
    try:
        async with (
            loop.Host(cache=tmp_path) as host,
            NatsKeyValue(config={"url": address}, grant=GRANT) as kv,
        ):
            app = await host.load(GUEST, {"wasi:keyvalue": kv})
            async with asyncio.timeout(60):
                while True:
                    try:
                        jobs = await kv.open("jobs")
                        break
                    except loop.Err:
                        await asyncio.sleep(0.02)
            async with watch(app, kv, "jobs"):
                await jobs.set("a", b"")
                await seen(kv, 1)
                server.kill()
                server.wait()
                server = started(tmp_path / "js", port)
                async with asyncio.timeout(60):
                    while True:
                        try:
                            await jobs.set("b", b"")
                            break
                        except loop.Err:
                            await asyncio.sleep(0.02)
                async with asyncio.timeout(60):
                    while True:
                        try:
                            notes = await seen(kv, 2)
                            break
                        except loop.Err:
                            await asyncio.sleep(0.02)
                assert notes[1:] == ["set b [], now Some([])"]
    finally:
        server.kill()
        server.wait()


async def test_a_bucket_that_is_made_anew_is_watched_on(tmp_path: Path) -> None:
    own = config(tmp_path)
    connected = await nats.connect(own["url"])
    async with loop.Host(cache=tmp_path) as host, NatsKeyValue(config=own, grant=GRANT) as kv:
        app = await host.load(GUEST, {"wasi:keyvalue": kv})
        jobs = await kv.open("jobs")
        async with watch(app, kv, "jobs"):
            for number in range(3):
                await jobs.set(f"k{number}", b"")
            await seen(kv, 3)
            await connected.jetstream().delete_key_value(f"{own['prefix']}jobs")
            with pytest.raises(loop.Err, match="no such bucket"):
                await jobs.set("k", b"")
            await (await kv.open("jobs")).set("new", b"")
            assert (await seen(kv, 4))[3:] == ["set new [], now Some([])"]
    await connected.close()


async def test_a_server_that_is_away_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_jetstream, "_AGAIN", 0.001)
    with serving(tmp_path, "--jetstream", "--store_dir", str(tmp_path / "js")) as address:
        kv = NatsKeyValue(config={"url": address}, grant=GRANT)
        begun = asyncio.Event()

        async def watched() -> None:
            async for _ in (await kv.open("jobs")).changes(begun.set):
                pass

        watching = asyncio.create_task(watched())
        await begun.wait()
        caplog.set_level(logging.DEBUG, _jetstream.__name__)

    def levels() -> list[int]:
        return [record.levelno for record in caplog.records if record.name == _jetstream.__name__]

    async with asyncio.timeout(60):
        while len(levels()) < 5:
            await asyncio.sleep(0.01)
    assert levels()[:5] == [logging.WARNING, *[logging.DEBUG] * 4]
    watching.cancel()
    await asyncio.wait((watching,))
    await kv.aclose()


async def test_what_cannot_be_watched_is_said(tmp_path: Path) -> None:
    given = config(tmp_path)
    async with loop.Host(cache=tmp_path) as host, NatsKeyValue(config=given, grant=GRANT) as kv:
        app = await host.load(GUEST, {"wasi:keyvalue": kv})
        with pytest.raises(loop.Err, match="access-denied"):
            async with watch(app, kv, "jobs", "other"):
                pass
        spin = loop.shipped("keyvalue/spin")
        other = await host.load(spin, {"wasi:keyvalue": kv})
        with pytest.raises(LoadError, match="does not export wasi:keyvalue/watcher@"):
            async with watch(other, kv, "jobs"):
                pass


def written(tmp_path: Path, use: str, extra: str = "") -> str:
    given = (
        ", ".join(f'{key} = "{value}"' for key, value in config(tmp_path).items()) if "Nats" in use else ""
    )
    buckets = "{ " + ", ".join(f'{name} = {{ mode = "rw" }}' for name in GRANT["buckets"]) + " }"
    return f"""
        components.app.path = "{GUEST}"
        components.app.watch = ["jobs"]
        components.app.imports."wasi:keyvalue" = {{ provider = "kv", grant = {{ buckets = {buckets} }} }}
        providers.kv = {{ use = "{use}", config = {{ {given} }} }}
        {extra}
    """


NATS = "python:loop_kit.capabilities.keyvalue:NatsKeyValue"


async def test_a_workspace_watches(tmp_path: Path) -> None:
    declared = manifest.loads(written(tmp_path, NATS), tmp_path / "loop.toml")
    async with NatsKeyValue(config=config(tmp_path), grant=GRANT) as kv:
        jobs = await kv.open("jobs")
        async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
            await workspace.load("app")
            await jobs.set("k", b"")
            assert await seen(kv, 1) == ["set k [], now Some([])"]
        # the workspace is closed, and with it the watch
        await jobs.set("l", b"")
        async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
            await workspace.load("app")
            await jobs.delete("l")
            assert (await seen(kv, 2))[1:] == ["deleted l, now None"]


@pytest.mark.parametrize(
    "use",
    ["builtin:keyvalue", f"sidecar:{NATS}", "component:loop:keyvalue/memory"],
    ids=["builtin", "sidecar", "component"],
)
async def test_a_workspace_says_what_it_cannot_watch(use: str, tmp_path: Path) -> None:
    declared = manifest.loads(written(tmp_path, use), tmp_path / "loop.toml")
    async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
        with pytest.raises(ManifestError) as caught:
            await workspace.load("app")
    assert f"components.app.watch: {use} has no changes to watch" in str(caught.value)


def test_loop_run_watches_until_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text(written(tmp_path, NATS))
    given = config(tmp_path)

    async def told() -> list[str]:
        async with NatsKeyValue(config=given, grant=GRANT) as kv:
            jobs, noted = await kv.open("jobs"), await kv.open("seen")
            number = 0
            async with asyncio.timeout(60):
                while await noted.get("1") is None:
                    # not before the command watches
                    await jobs.set("k", str(number).encode())
                    number += 1
                    await asyncio.sleep(0.02)
            return [bytes(await noted.get("1") or b"").decode()]

    command = [sys.executable, "-m", "loop_kit.cli", "run", str(tmp_path)]
    with subprocess.Popen(command) as running_command:
        try:
            (note,) = asyncio.run(told())
            assert note.startswith("set k ")
        finally:
            running_command.terminate()
            assert running_command.wait(30) == 0


async def written_elsewhere(path: Path, provider: str, count: int) -> None:
    """A process of its own writes and deletes keys in a file."""
    code = f"""
import asyncio
from loop_kit.testing import client

async def main():
    config, grant = {{"path": {str(path)!r}}}, {{"buckets": {{"jobs": {{"mode": "rw"}}}}}}
    async with client("wasi:keyvalue", provider={provider!r}, config=config, grant=grant) as kv:
        jobs = await kv.store.open("jobs")
        await kv.batch.set_many(jobs, [(f"k{{number}}", b"v") for number in range({count})])
        await jobs.delete("k0")

asyncio.run(main())
"""
    await asyncio.to_thread(subprocess.check_call, [sys.executable, "-c", code])


FILE = "python:loop_kit.capabilities.keyvalue:KeyValue"


@pytest.mark.parametrize("provider", ["builtin:keyvalue", FILE])
async def test_a_file_that_others_write_is_watched(provider: str, tmp_path: Path) -> None:
    path = tmp_path / "kv.db"
    async with loop.Host(cache=tmp_path) as host:
        kv = KeyValue(config={"path": str(path)}, grant=GRANT)
        app = await host.load(GUEST, {"wasi:keyvalue": kv})
        noted = kv.open("seen")
        kv.open("jobs").set("before", b"")
        async with watch(app, kv, "jobs") as watching:
            await written_elsewhere(path, provider, 40)
            kv.open("jobs").set("own", b"")
            async with asyncio.timeout(60):
                while not (noted.get(str(watching.told)) or b"").startswith(b"set own "):
                    await asyncio.sleep(0.01)
            assert (watching.failed, watching.lost) == (0, 0)
        notes = [(noted.get(str(number)) or b"").decode() for number in range(1, watching.told + 1)]
        assert "deleted k0, now None" in notes
        assert [note for note in notes if note.startswith("set k") and "set k0 " not in note] == [
            f"set k{number} [118], now Some([118])" for number in range(1, 40)
        ]
        # a write that nobody watches is no change of the next watch
        kv.open("jobs").set("between", b"")
        async with watch(app, kv, "jobs") as watching:
            kv.open("jobs").set("again", b"")
            async with asyncio.timeout(60):
                while not watching.told:
                    await asyncio.sleep(0.01)
        assert (noted.get(str(len(notes) + 1)) or b"").startswith(b"set again ")


async def test_changes_that_were_forgotten_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file keeps so many changes of a watched bucket, and no more."""
    config = {"path": str(tmp_path / "kv.db"), "max-changes": 5, "durability": "normal"}
    async with loop.Host(cache=tmp_path) as host:
        kv = KeyValue(config=config, grant=GRANT)
        app = await host.load(GUEST, {"wasi:keyvalue": kv})
        with caplog.at_level(logging.WARNING, "loop_kit.keyvalue"):
            async with watch(app, kv, "jobs") as watching:
                # before the loop turns again
                kv.open("jobs").set_many([(f"k{number}", b"") for number in range(20)])
                async with asyncio.timeout(60):
                    while watching.told < 5:
                        await asyncio.sleep(0.01)
        assert (watching.told, watching.lost) == (5, 15)
        assert "15 changes of the bucket `jobs` were forgotten" in caplog.text


async def test_what_is_forgotten_while_changes_are_read_is_counted(tmp_path: Path) -> None:
    config = {"path": str(tmp_path / "kv.db"), "max-changes": 5, "durability": "normal"}
    jobs, elsewhere = [KeyValue(config=config, grant=GRANT).open("jobs") for _ in range(2)]
    connection = jobs._db._connection
    written: list[str] = []

    def write_before(statement: str) -> None:
        if "max(c.id)" in statement and not written:
            written.extend(f"k{number}" for number in range(20))
            elsewhere.set_many([(key, b"") for key in written])

    changes = jobs.changes(lambda: connection.set_trace_callback(write_before))
    async with asyncio.timeout(60):
        told = [await anext(changes) for _ in range(5)]
    await changes.aclose()
    assert [change.key for change in told] == written[-5:]
    assert sum(change.lost for change in told) == 15
