"""`loop:devserver` as whoever looks after a workspace meets it: over its socket, which is its user's alone."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import Err, telemetry
from loop_kit.capabilities._hints import Hints
from loop_kit.dev import _control, _devserver, _record
from loop_kit.dev._control import Door, dial
from loop_kit.dev._devserver import Devserver
from loop_kit.dev._registry import BUILT_IN, SHIPPED
from loop_kit.dev._sources import logged
from loop_kit.errors import LoopError, ProviderGone
from loop_kit.manifest import load
from loop_kit.peer import Peer
from loop_kit.placements.builtin import Builtin, driven
from loop_kit.workspace import Workspace
from tests.children import is_gone, started, until
from tests.guests import HOST, Guest
from tests.wit_types import U32

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PACKAGE, _, INTERFACE = HOST.partition("/")
GUEST = Guest().imports("ask", [], U32).exports("ask", [], U32, "(call $ask)")
BETWEEN = Guest().imports("ask", [], U32).exports("ask", [], U32, "(call $ask)", of=HOST)
WIT = f"package {PACKAGE};\n\ninterface {INTERFACE} {{\n  ask: func() -> u32;\n}}\n"
MANIFEST = f"""\
[workspace]
name = "plant"
[components.a]
path = "a.wasm"
imports."{HOST}" = {{ provider = "far" }}
[components.b]
path = "a.wasm"
imports."{HOST}" = {{ provider = "mill" }}
[components.c]
path = "c.wasm"
imports."{HOST}" = {{ provider = "near" }}
[providers.far]
use = "sidecar:python:near:Near"
[providers.mill]
use = "component:c"
[providers.near]
use = "python:near:Near"
trusted = true
"""
NEAR = f"""\
import os, time
from loop_kit.provider import provider

@provider({HOST!r}, wit="near.wit")
class Near:
    def ask(self):
        if os.path.exists("hang"):
            open("hangs", "w").close()
            time.sleep(1000)
        return os.getpid()

    async def aclose(self):
        with open(os.path.join(os.path.dirname(__file__), "closed"), "w") as said:
            said.write("yes")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.wasm").write_bytes(GUEST.wasm())
    (tmp_path / "c.wasm").write_bytes(BETWEEN.wasm())
    (tmp_path / "loop.toml").write_text(MANIFEST)
    (tmp_path / "near.py").write_text(NEAR)
    (tmp_path / "near.wit").write_text(WIT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "near", raising=False)
    return tmp_path


class Plant:
    def __init__(
        self, workspace: Workspace, devserver: Devserver, peer: Peer, stopped: asyncio.Event
    ) -> None:
        self.workspace, self.devserver, self.peer, self.stopped = workspace, devserver, peer, stopped

    async def ask(self, function: str, *args: Any) -> Any:
        return await self.peer.call(f"loop:devserver/{function}", *args)

    async def members(self) -> dict[str, Any]:
        return {f"{m.kind.name.lower()} {m.name}": m for m in await self.ask("workspace#members")}


@contextlib.asynccontextmanager
async def plant(folder: Path, at: Path | None = None) -> AsyncIterator[Plant]:
    stopped = asyncio.Event()
    async with loop.Host(cache=None) as host:
        workspace = Workspace(host, load(folder))
        devserver = Devserver(workspace, instance="i", version="v", stop=stopped.set)
        with Door(at or folder / "door") as door, logged(devserver.line):
            async with door.open(devserver), workspace, await dial(door.address) as peer:
                yield Plant(workspace, devserver, peer, stopped)
        devserver.close()


TOPICS = {name: 1 << bit for bit, name in enumerate(_devserver._TOPICS)}


async def test_members_and_links_are_told_as_they_are(folder: Path) -> None:
    async with plant(folder) as site:
        about = await site.ask("workspace#about")
        assert (about.name, about.folder, about.pid, about.instance) == (
            "plant",
            str(folder),
            os.getpid(),
            "i",
        )
        before = await site.members()
        assert list(before) == [
            "component a", "component b", "component c", "provider far", "provider mill", "provider near",
        ]  # fmt: skip
        assert {(m.phase.name, m.generation, m.since) for m in before.values()} == {("STOPPED", 0, 0)}
        assert await site.ask("workspace#links") == []
        for name in ("a", "b"):
            await site.ask("loader#load", name)
        now = await site.members()
        assert {m.phase.name for m in now.values()} == {"READY"}
        assert now["provider far"].pid not in (None, os.getpid())
        assert now["component c"].digest == now["provider mill"].digest  # that of the component that it is
        assert now["provider near"].digest not in (None, now["component a"].digest)
        first = {link.importer: link for link in await site.ask("workspace#links")}
        assert {name: link.provider for name, link in first.items()} == {"a": "far", "b": "mill", "c": "near"}
        assert first["a"].grants == [f"use {PACKAGE} by sidecar:python:near:Near"]
        assert "TRUSTED" in first["c"].grants[0]
        first_of_c = first["c"].traffic
        assert (first_of_c.calls, first_of_c.errors, first_of_c.spent) == (
            0,
            0,
            None,
        )  # not split up in the process
        app = await site.workspace.load("a")
        for _ in range(7):
            await app.call("ask")
        for _ in range(5):
            await (await site.workspace.load("b")).call("ask")
        now = {link.importer: link.traffic for link in await site.ask("workspace#links")}
        assert {name: (one.calls, one.errors) for name, one in now.items()} == {
            "a": (7, 0),
            "b": (5, 0),
            "c": (5, 0),
        }
        assert now["b"].busy > now["c"].busy > 0  # `b` calls `c`, which calls `near`
        traffic = now["a"]
        assert traffic.spent.calls == 7
        assert traffic.busy >= traffic.spent.session > 0
        assert traffic.spent.provider > 0


async def test_what_cannot_be_done_is_refused_in_words(folder: Path) -> None:
    async with plant(folder) as site:

        async def refused(function: str, *args: Any) -> Any:
            with pytest.raises(Err) as caught:
                await site.ask(function, *args)
            failure: Any = caught.value.value
            return failure.case, failure.value

        assert await refused("workspace#restart", "neer") == ("unknown", ["near"])
        assert (await refused("workspace#restart", "far"))[0] == "refused"
        assert await refused("loader#load", "near") == ("unknown", [])
        (folder / "a.wasm").write_bytes(b"junk")
        kind, why = await refused("loader#load", "a")
        assert kind == "refused"
        assert "is no WebAssembly" in why
        failed = (await site.members())["component a"]
        assert (failed.phase.name, failed.reason) == ("FAILED", why)
        (folder / "a.wasm").write_bytes(GUEST.wasm())
        await site.ask("loader#load", "a")
        again = (await site.members())["component a"]
        assert (again.phase.name, again.generation, again.restarts) == ("READY", 2, 1)
        await site.ask("loader#load", "b")
        # what runs in the host's process is exchanged for itself
        app = await site.workspace.load("b")
        assert await app.call("ask") == os.getpid()
        (folder / "near.py").write_text(NEAR.replace("return os.getpid()", "return 7"))
        for member, generation in (("near", 2), ("mill", 1), ("c", 3), ("b", 2)):
            await site.ask("workspace#restart", member)
            assert await app.call("ask") == 7
            found = {name.split()[1]: m.generation for name, m in (await site.members()).items()}
            assert found[member] == generation
        assert await refused("workspace#swap", "neer", None, False, None) == ("unknown", ["near"])
        for arguments, words in {
            ("b", "component:c", True, None): "b is a component; what it is stands in its `path`",
            ("near", "builtin:no", False, None): "there is no builtin",
        }.items():
            assert words in (await refused("workspace#swap", *arguments))[1]
        assert await site.ask("workspace#swap", "b", None, False, None) == []  # the same code
        commands = await site.ask("command#commands")
        assert [one.name for one in commands] == [*BUILT_IN, *SHIPPED]
        with pytest.raises(Err, match="there is no command 'sed'"):
            await site.ask("command#run", "sed", [])
        await site.ask("workspace#stop")
        assert site.stopped.is_set()


async def test_events_come_as_they_happen(folder: Path) -> None:
    async with plant(folder) as site:
        stream = await site.ask("events#subscribe", TOPICS["members"] | TOPICS["refusals"], 0)
        await site.ask("loader#load", "a")
        found = []
        async with asyncio.timeout(20):
            async for event in stream:
                assert event.case == "member"
                found.append((event.value.name, event.value.phase.name))
                if found[-1] == ("a", "READY"):
                    break
        assert list(dict.fromkeys(found)) == [
            ("a", "STARTING"), ("far", "STARTING"), ("far", "READY"), ("a", "READY"),
        ]  # fmt: skip
        Hints("loop:fsx").say("the grant has no root `x`; add `roots.x.path`")
        async with asyncio.timeout(20):
            event = await anext(stream)
            while event.case != "refusal":
                event = await anext(stream)
        assert (event.value.what, event.value.proposal) == ("the grant has no root `x`", "add `roots.x.path`")
        await stream.aclose()
        kept = await site.ask("events#subscribe", TOPICS["lines"], 100)
        async with asyncio.timeout(20):
            told = [await anext(kept) for _ in range(2)]
        assert [(event.value.source, event.value.message) for event in told] == [
            ("a", "is starting (generation 1)"), ("far", "is starting (generation 1)"),
        ]  # fmt: skip
        await kept.aclose()


async def test_whoever_leaves_is_forgotten(folder: Path) -> None:
    async with plant(folder) as site:
        journal = site.devserver.journal
        async with await dial(f"unix:{folder / 'door'}") as peer:
            # held, since what nobody has any more is ended
            streams = [
                await peer.call("loop:devserver/events#subscribe", TOPICS["lines"], 0)
                for _ in range(3 * _devserver.SUBSCRIPTIONS)
            ]
            assert len(journal._subscribers) == _devserver.SUBSCRIPTIONS < len(streams)
        async with asyncio.timeout(20):
            while journal.wanted("lines"):
                await asyncio.sleep(0.001)
        await site.ask("workspace#about")


async def test_spans_are_made_only_while_somebody_asks_for_them(folder: Path) -> None:
    async with plant(folder):
        assert not telemetry.listens()
        async with await dial(f"unix:{folder / 'door'}") as peer:
            stream = await peer.call("loop:devserver/events#subscribe", TOPICS["spans"], 0)
            reading = asyncio.ensure_future(anext(stream))
            async with asyncio.timeout(20):
                while not telemetry.listens():
                    await asyncio.sleep(0.001)
            with telemetry.span("work") as work:
                work.fail("no")
            async with asyncio.timeout(20):
                span = (await reading).value
            assert (span.name, span.error, span.parent) == ("work", "no", "")
            assert len(span.trace) == 32
        async with asyncio.timeout(20):
            while telemetry.listens():
                await asyncio.sleep(0.001)


async def test_what_is_measured_is_told(folder: Path) -> None:
    async with plant(folder) as site:
        first = await site.ask("metrics#measured")
        assert {(s.origin.name, s.name, tuple(s.attributes)) for s in first.series} == {
            ("HOST", "process.cpu.time", ()),
            ("HOST", "process.memory.usage", ()),
        }
        await site.ask("loader#load", "a")
        about, shift = {"unit": "{job}", "description": ""}, [{"key": "shift", "value": ("text", "late")}]
        async with driven(Builtin("core", {})) as core:
            metrics = core["loop:core/metrics"]
            for value in (2.0, 40.0):
                await (await metrics.Counter("jobs", about)).add(value, shift)
                await (await metrics.Gauge("jobs", about)).set(value, shift)
                await (await metrics.Histogram("jobs", about)).record(value, shift)
        now = await site.ask("metrics#measured")
        assert now.lost == 0
        of_far = [s for s in now.series if s.attributes == [("member", "far")]]
        assert [s.name for s in of_far] == ["process.cpu.time", "process.memory.usage"]
        assert of_far[1].last > 1 << 20
        told = {s.instrument.name: s for s in now.series if s.origin.name == "COMPONENT"}
        assert {*told} == {"COUNTER", "GAUGE", "HISTOGRAM"}
        assert {(s.name, s.unit, s.count, s.sum, s.last) for s in told.values()} == {
            ("jobs", "{job}", 2, 42.0, 40.0)
        }
        assert {tuple(s.attributes) for s in told.values()} == {(("shift", "late"),)}
        assert [n for _, n in told["HISTOGRAM"].buckets] == [1, 1]
        assert told["HISTOGRAM"].buckets[0][0] == 2.0
    assert not telemetry.listens()


async def test_a_reader_that_is_stuck_holds_nobody_up(folder: Path) -> None:
    async with plant(folder) as site:
        stream = await site.ask("events#subscribe", TOPICS["lines"], 0)
        for n in range(50_000):
            site.devserver.line(
                {"time": n, "level": "info", "source": "", "target": "", "message": "m", "fields": []}, False
            )
        lost, times = 0, []
        async with asyncio.timeout(60):
            async for event in stream:
                if event.case == "lost":
                    lost += event.value
                else:
                    times.append(event.value.time)
                    if times[-1] == 49_999:
                        break
        assert lost + len(times) == 50_000
        assert lost > 30_000
        assert times == sorted(times)
        await stream.aclose()


async def test_members_end_after_those_who_use_them(folder: Path) -> None:
    ends: list[tuple[str, str, str]] = []
    async with plant(folder) as site:
        for name in ("a", "b"):
            await site.workspace.load(name)
        app = await site.workspace.load("b")
        site.workspace.listen(lambda member: ends.append((member.kind, member.name, str(member.phase))))
        pid = (await site.members())["provider far"].pid
        order = [[entry.key.name for entry in wave] for wave in site.workspace._members.waves()]
        assert [sorted(wave) for wave in order] == [["a", "b"], ["far", "mill"], ["c"], ["near"]]
    after = [("component", "b"), ("provider", "mill"), ("component", "c"), ("provider", "near")]
    moments = [ends.index((*key, phase)) for key in after for phase in ("draining", "stopped")]
    assert moments == sorted(moments)
    assert ends.index(("component", "a", "stopped")) < ends.index(("provider", "far", "draining"))
    assert (folder / "closed").read_text() == "yes"
    assert is_gone(pid)
    with pytest.raises(loop.errors.LoopError):
        await app.call("ask")


async def test_a_call_is_told_that_its_provider_was_killed(folder: Path) -> None:
    async with plant(folder) as site:
        app = await site.workspace.load("a")
        first = await app.call("ask")
        watched = await site.ask("events#subscribe", TOPICS["members"], 0)
        (folder / "hang").touch()
        asking = asyncio.ensure_future(app.call("ask"))
        while not (folder / "hangs").exists():
            await asyncio.sleep(0.005)
        (folder / "hang").unlink()
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ProviderGone):
            await asking
        supervisor = started(site.workspace, "far")
        while supervisor.lifecycle.generation == 1:  # that its process has gone is not known at once
            await asyncio.sleep(0.005)
        await supervisor.ready()
        assert await app.call("ask") not in (first, os.getpid())
        async with asyncio.timeout(20):
            async for event in watched:
                if event.value.phase.name == "FAILED":
                    break
        assert event.value.reason.splitlines()[0] == "killed by SIGKILL (started again after 0.1 s)"
        far = (await site.members())["provider far"]
        assert (far.restarts, far.reason.splitlines()[0]) == (1, "killed by SIGKILL")


# Who may come in


async def test_the_socket_is_its_users_alone(tmp_path: Path) -> None:
    with Door(tmp_path / "door") as door:
        assert (tmp_path / "door").stat().st_mode & 0o777 == 0o600
        assert door.address == f"unix:{tmp_path / 'door'}"
    assert not (tmp_path / "door").exists()
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    with Door(deep) as door:  # a name that no socket can have
        short = Path(door.address.removeprefix("unix:"))
        assert short.stat().st_mode & 0o777 == 0o600
        assert short.parent.stat().st_mode & 0o777 == 0o700
    assert not short.parent.exists()


CONNECT = """
import os, socket, sys
if sys.argv[2] != "-":
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(20)
    try:
        s.connect(sys.argv[1])
    except PermissionError:
        sys.exit("may not connect")
    try:
        sys.exit("is not answered" if s.recv(1) == b"" else "is answered")
    except ConnectionError:
        sys.exit("is not answered")
"""


async def comes(path: Path, user: str) -> str:
    argv = [sys.executable, "-c", CONNECT, str(path), user]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, cwd="/")
    return done.stderr.strip()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
async def test_another_user_is_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as own:
        async with plant(folder, Path(own) / "door"):
            assert await comes(Path(own) / "door", "65534") == "may not connect"
            for opened in (Path(own) / "door", Path(own)):  # as if somebody had been careless
                opened.chmod(0o777)
            assert await comes(Path(own) / "door", "65534") == "is not answered"
            assert "refused user 65534 at the control plane: it is user 0's" in caplog.text


async def test_whoever_is_not_believed_is_closed_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plant(folder):
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        monkeypatch.setattr(_control, "_ROOT", 4712)
        assert await comes(folder / "door", "-") == "is not answered"


async def test_sessions_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_control, "_SESSIONS", 2)
    async with plant(folder) as site:
        address = f"unix:{folder / 'door'}"
        async with await dial(address) as second:
            await second.call("loop:devserver/workspace#about")
            with pytest.raises(LoopError):
                await dial(address)
        await site.ask("workspace#about")


# Records


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def a_record(manifest: Path, pid: int, begun: str) -> _record.Record:
    return _record.Record("i", pid, begun, f"unix:{manifest}.sock", manifest, "n", 1.5, manifest, False, "v")


def test_a_record_is_of_one_process_and_of_no_later_one_with_its_number(home: Path) -> None:
    mine = _record.begun(os.getpid())
    assert mine is not None
    assert mine == _record.begun(os.getpid())
    assert _record.alive(a_record(home, os.getpid(), mine))
    assert not _record.alive(a_record(home, os.getpid(), f"{mine}0"))
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    until(lambda: _record.begun(child.pid) is None)  # a zombie does not live
    child.wait()


def test_one_host_at_a_time_has_a_workspace(home: Path) -> None:
    manifest = home / "loop.toml"
    first = _record.claim(manifest)
    record = a_record(manifest, os.getpid(), _record.begun(os.getpid()) or "")
    first.write(record)
    assert _record.find(manifest) == record
    assert _record.records() == [record]
    stored = next(_record.folder().glob("*.json"))
    assert stored.stat().st_mode & 0o777 == 0o600
    assert _record.folder().stat().st_mode & 0o777 == 0o700
    with pytest.raises(_record.Running, match=f"runs already .process {os.getpid()}"):
        _record.claim(manifest)
    assert not _record.forget(record)
    first.release()
    first.release()
    assert _record.find(manifest) is None
    _record.claim(manifest).release()


def test_what_a_killed_host_left_is_removed_by_the_next(home: Path) -> None:
    manifest = home / "loop.toml"
    dead = _record.claim(manifest)
    sock = _record.socket_of(manifest)
    record = a_record(manifest, os.getpid(), "another boot/1")
    record = dataclasses.replace(record, address=f"unix:{sock}")
    dead.write(record)
    os.close(dead._descriptor)  # as the system does it
    sock.touch()
    assert _record.forget(record)
    assert (_record.find(manifest), sock.exists()) == (None, False)


def test_records_are_in_the_runtime_folder_where_there_is_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert _record.folder() == runtime / "loop-kit"
    runtime.chmod(0o777)  # somebody else could put things there
    assert _record.folder() == home / ".local" / "state" / "loop-kit" / "run"


def test_a_folder_that_others_can_open_is_refused(home: Path) -> None:
    folder = _record.folder()
    folder.chmod(0o755)
    with pytest.raises(LoopError, match="others can open it; `chmod 700 "):
        _record.folder()
    folder.rmdir()
    folder.symlink_to(home)
    with pytest.raises(LoopError, match="is not this user's own folder"):
        _record.folder()


def test_a_record_of_another_format_is_passed_over(home: Path) -> None:
    for text in ("", "[]", '{"format": 1}', '{"format": 99}', "{"):
        (_record.folder() / "x.json").write_text(text)
        assert _record.records() == []
    assert (_record.folder() / "x.json").exists()  # it may be of a newer loop-kit


def test_looking_for_a_host_takes_no_core() -> None:
    """`loop ps`, `logs` and `down` are to be there at once."""
    modules = "loop_kit.cli.ps, loop_kit.cli.logs, loop_kit.cli.down, loop_kit.dev._record, loop_kit.dev._log"
    program = f"import sys, {modules}; sys.exit('loop_kit._core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_a_line_and_a_refusal_say_whose_they_are(tmp_path: Path) -> None:
    told: list[tuple[str, str, str, bool]] = []
    with logged(
        lambda line, refusal: told.append((line["source"], line["target"], line["message"], refusal))
    ):
        async with driven(Builtin("core", {}, {"log": {}}, "site")) as core:
            await core["loop:core/log"].log("warn", "pool", "the grant has no end; add one", [])
        async with driven(Builtin("fsx", {}, {"roots": {"d": {"path": str(tmp_path)}}}, "shop")) as fsx:
            with pytest.raises(Err):
                await fsx["loop:fsx/files"].root("other")
    assert told == [
        ("site", "pool", "the grant has no end; add one", False),  # what a component says is no refusal
        ("shop", "loop:fsx", "the grant has no root `other`; add `roots.other.path`", True),
    ]
