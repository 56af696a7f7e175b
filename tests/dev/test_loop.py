"""What changes takes the place of what runs: `loop dev`, in this process and in a shell."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loop_kit.dev._devserver import Devserver
from loop_kit.dev._events import Begun, Done, Failed
from loop_kit.dev._host import Looked
from loop_kit.dev._loop import Live, Settings, Told, Unserved, dev
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests import running
from tests.cli import LOOP
from tests.dev.workspaces import PATIENCE
from tests.guests import HOST
from tests.swap import places

MANIFEST = f"""\
[components.app]
path = "app.wasm"
build = "cat app.part >> /dev/null && cp app.part app.wasm"
sources = ["app.part"]
run = "run"
imports."{HOST}" = {{ provider = "near" }}
[components.other]
path = "other.wasm"
[providers.near]
use = "sidecar:python:near:Near"
[providers.spare]
use = "python:spare:Spare"
trusted = true
"""


class Developing:
    """A workspace that runs as `loop dev` has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[Told] = []
        self.ran = 0
        self.looked: Any = None
        self.workspace: Any = None

    def tell(self, event: Told) -> None:
        self.told.append(event)

    def command(self, _app: Any) -> int:
        self.ran += 1
        return 0

    async def until(self, found: Callable[[Told], bool]) -> Any:
        """The first event of that kind from now on, or that was told and not asked for yet."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for i, event in enumerate(self.told):
                    if found(event):
                        del self.told[: i + 1]
                        return event
                await asyncio.sleep(0.005)

    async def live(self, name: str) -> Live:
        made = await self.until(lambda e: isinstance(e, Live | Failed | Unserved) and e.member.name == name)
        assert isinstance(made, Live), made
        return made

    async def ask(self, number: int) -> int:
        answer: int = await self.workspace.loaded("app").call("ask", number)
        return answer

    def member(self, name: str) -> Any:
        [found] = [m for m in self.workspace.members() if m.name == name]
        return found


@asynccontextmanager
async def developing(folder: Path, page: str | None = None) -> AsyncIterator[Developing]:
    made = Developing(folder)
    ready = asyncio.Event()

    @asynccontextmanager
    async def attend(workspace: Workspace) -> AsyncIterator[Looked]:
        devserver = Devserver(workspace, instance="i", version="v", stop=lambda: made.looked.stop.set())
        made.workspace, made.looked = workspace, Looked(devserver, print, lambda _: ready.set())
        try:
            yield made.looked
        finally:
            devserver.close()

    work = dev(load(folder), attend, made.tell, Settings(made.command, page))
    running = asyncio.ensure_future(work)
    try:
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait({running, waiting}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        assert waiting.done()
        yield made
    finally:
        made.looked.stop.set()
        await running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("near", None)
    folder = tmp_path / "ws"
    folder.mkdir()
    places.workspace(folder)
    (folder / "app.wasm").rename(folder / "app.part")
    (folder / "loop.toml").write_text(MANIFEST)
    return folder


async def test_a_provider_whose_code_changed_serves_it(folder: Path) -> None:
    async with developing(folder) as made:
        assert await made.ask(1) == 1001
        digest = made.member("near").digest
        for code in range(2, 5):
            places.write(folder, code)
            await made.live("near")
            assert await made.ask(1) == code * 1000 + 1
            assert made.member("near").generation == code
        while made.member("near").digest == digest:
            await asyncio.sleep(0.005)
        assert made.member("app").generation == 1


async def test_a_component_whose_inputs_changed_is_built_and_replaced(folder: Path) -> None:
    async with developing(folder) as made:
        before, ran = made.member("app").digest, made.ran
        made.told.clear()
        (folder / "app.part").write_bytes(places.CALLER.wasm() + bytes([0, 4, 3]) + b"new")
        await made.live("app")
        assert made.member("app").digest != before
        assert await made.ask(1) == 1001
        while made.ran == ran:  # what runs to its end is run again
            await asyncio.sleep(0.005)
        # the same contents change nothing
        (folder / "app.part").write_bytes((folder / "app.part").read_bytes())
        places.write(folder, 2)
        await made.live("near")
        assert [e for e in made.told if isinstance(e, Begun)] == []
        assert made.member("app").generation == 2


async def test_what_fails_is_told_and_the_old_code_serves_on(folder: Path) -> None:
    async with developing(folder) as made:
        # a build that fails
        (folder / "app.part").unlink()
        failed = await made.until(lambda e: isinstance(e, Failed))
        assert "exited with 1" in failed.reason
        assert await made.ask(1) == 1001
        # one that makes what cannot be loaded
        (folder / "app.part").write_bytes(b"no")
        unserved = await made.until(lambda e: isinstance(e, Unserved))
        assert unserved.member.name == "app"
        assert await made.ask(1) == 1001
        # a provider that is no Python
        (folder / "near.py").write_text("def")
        unserved = await made.until(lambda e: isinstance(e, Unserved))
        assert unserved.member.name == "near"
        assert await made.ask(1) == 1001
        # the page is told of all
        steps = []
        async with asyncio.timeout(PATIENCE):
            async for _, event in made.looked.devserver.journal.subscribe(["builds"], 1000).events():
                steps.append(event["step"])
                if steps.count("failed") == 3:
                    break
        # and all are mended
        (folder / "app.part").write_bytes(places.CALLER.wasm())
        places.write(folder, 5)
        await made.live("near")
        assert await made.ask(1) == 5001


async def test_going_back_to_what_served_is_told_as_mended(folder: Path) -> None:
    good = {name: (folder / name).read_bytes() for name in ("app.part", "near.py")}
    async with developing(folder) as made:
        (folder / "app.part").unlink()
        await made.until(lambda e: isinstance(e, Failed))
        (folder / "near.py").write_text("def")
        await made.until(lambda e: isinstance(e, Unserved))
        for name, content in good.items():
            (folder / name).write_bytes(content)
        last: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE):
            async for _, event in made.looked.devserver.journal.subscribe(["builds"], 1000).events():
                last[event["member"]] = event["step"]
                if last == {"app": "done", "near": "done"}:
                    break
        assert await made.ask(1) == 1001


async def test_what_cannot_be_built_at_first_is_loaded_once_it_can(folder: Path) -> None:
    (folder / "app.part").unlink()
    async with developing(folder) as made:
        failed = await made.until(lambda e: isinstance(e, Failed))
        assert failed.member.name == "app"
        (folder / "app.part").write_bytes(places.CALLER.wasm())
        live = await made.live("app")
        assert live.first
        assert await made.ask(1) == 1001


async def test_a_second_start_builds_nothing(folder: Path) -> None:
    async with developing(folder) as made:
        assert any(isinstance(e, Done) and e.fresh for e in made.told)
    async with developing(folder) as made:
        assert not any(isinstance(e, Begun) for e in made.told)
        assert await made.ask(1) == 1001


async def test_types_follow_the_wit_before_their_provider_does(folder: Path) -> None:
    bind = 'bind = { python = "near_types.py", wit = "api" }\n'
    (folder / "loop.toml").write_text(MANIFEST.replace("[providers.spare]", f"{bind}[providers.spare]"))
    (folder / "api").mkdir()
    wit = folder / "api/near.wit"
    wit.write_text("package acme:near;\ninterface near { get: func(); }\n")
    near = folder / "near.py"
    near.write_text(f"import near_types\n{near.read_text()}")
    async with developing(folder) as made:
        begun = {str(e.member) for e in made.told if isinstance(e, Begun)}
        assert begun == {"providers.near.bind", "components.app"}
        assert await made.ask(1) == 1001
        made.told.clear()
        wit.write_text("package acme:near;\ninterface near { put: func(); }\n")
        await made.live("near")
        assert made.member("near").generation == 2
        assert await made.ask(1) == 1001
        assert "def put" in (folder / "near_types.py").read_text()
        # wrong WIT is told with its place, on the page too, and nothing else happens
        wit.write_text("package acme:near;\ninterface near { put: fun(); }\n")
        failed = await made.until(lambda e: isinstance(e, Failed))
        assert (failed.member.name, failed.places[0].line) == ("providers.near.bind", 2)
        assert "fun()" in failed.places[0].excerpt
        last: Any = None
        async with asyncio.timeout(PATIENCE):
            async for _, last in made.looked.devserver.journal.subscribe(["builds"], 1000).events():
                if last["step"] == "failed":
                    break
        assert (last["member"], last["places"][0]["line"]) == ("providers.near.bind", 2)
        assert "fun()" in last["places"][0]["excerpt"]
        near.write_text(near.read_text() + "# held back\n")
        wit.write_text("package acme:near;\ninterface near { put: func(); }\n")
        await made.live("near")
        assert made.member("near").generation == 3
        assert await made.ask(1) == 1001


async def test_calls_go_on_while_code_changes(folder: Path) -> None:
    async with developing(folder) as made:
        over, answers = False, 0

        async def caller() -> None:
            nonlocal answers
            while not over:
                assert await made.ask(0) in range(1000, 20_000, 1000)
                answers += 1
                await asyncio.sleep(0)

        calling = [asyncio.ensure_future(caller()) for _ in range(4)]
        for code in range(2, 8):
            places.write(folder, code)
            (folder / "app.part").write_bytes(
                places.CALLER.wasm() + bytes([0, 3, 2]) + b"%d" % (code % 10) + b"x"
            )
            await made.live("near")
            for task in calling:
                if task.done():
                    task.result()
        over = True
        await asyncio.gather(*calling)
        assert answers


async def test_what_the_manifest_says_otherwise_is_taken_up(folder: Path) -> None:
    async with developing(folder) as made:
        assert await made.ask(1) == 1001
        app = made.workspace.loaded("app")
        manifest = folder / "loop.toml"
        (folder / "loop.toml").write_text(
            MANIFEST.replace('{ provider = "near" }', '{ provider = "far" }')
            .replace("[providers.near]", "[providers.far]")
            .replace("sidecar:python:near:Near", "component:./near.wasm")
        )
        await made.live("loop.toml")
        assert await made.ask(1) == 1001
        assert [m.name for m in made.workspace.members()] == ["app", "other", "far", "spare"]
        assert made.workspace.loaded("app") is app
        # what cannot be changes nothing, whether it is no manifest or does not start
        for wrong in (
            MANIFEST.replace("[components.app]", "[components.app"),
            MANIFEST.replace("near:Near", "no:No"),
        ):
            manifest.write_text(wrong)
            failed = await made.until(lambda e: isinstance(e, Unserved) and e.member.kind == "manifest")
            assert failed.reason
            assert await made.ask(1) == 1001
            assert made.member("far").phase == "ready"
        # a component that is new is built, and runs
        (folder / "new.part").write_bytes((folder / "app.part").read_bytes())
        more = MANIFEST + '[components.new]\npath = "new.wasm"\nbuild = "cp new.part new.wasm"\nrun = "run"\n'
        more += f'imports."{HOST}" = {{ provider = "near" }}\n'
        manifest.write_text(more)
        await made.live("new")
        assert await made.workspace.loaded("new").call("ask", 2) == 1002
        assert await made.ask(1) == 1001
        assert made.member("near").phase == "ready"
        # a provider that moves, and a component that needs no build
        here = more.replace('"sidecar:python:near:Near"', '"python:near:Near"\ntrusted = true')
        manifest.write_text(here + '[components.more]\npath = "other.wasm"\nrun = "run"\n')
        assert (await made.live("more")).first
        assert await made.ask(1) == 1001
        assert made.member("near").placement == "python"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "loop.toml").write_text(running.MANIFEST)
    (folder / "site.wasm").write_bytes(running.site())
    (folder / "near.py").write_text(running.NEAR)
    (folder / "near.wit").write_text(running.WIT)
    return folder


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as e:
        return e.code


def test_in_a_shell(shop: Path) -> None:
    command = [LOOP, "dev", "-m", str(shop), "--page", "127.0.0.1:0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        urls: dict[str, str] = {}
        while len(urls) < 2:
            name, at, url = process.stdout.readline().strip().partition(" at ")
            assert at, process.stderr.read()
            urls[name] = url
        assert status(f"{urls['site']}n") == 200
        page, _, token = urls["page"].partition("#")
        assert token
        assert status(page) == 200
        (shop / "near.py").write_text(running.NEAR.replace("else 200", "else 204"))
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("live near") for line in lines)
        assert status(f"{urls['site']}n") == 204
        (shop / "near.py").write_text("def")
        assert any(line.startswith("error: near:") for line in lines)
        assert status(f"{urls['site']}n") == 204
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_what_is_wrong_with_the_manifest_is_told_at_once(shop: Path) -> None:
    (shop / "loop.toml").write_text("[components.site]\n")
    ran = subprocess.run([LOOP, "dev", "-m", str(shop)], capture_output=True, text=True)
    assert ran.returncode == 3
    assert "path" in ran.stderr
    assert "Traceback" not in ran.stderr
