"""The commands of a workspace in its host: which there are, and that each costs only its own bounds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import loop_kit as loop
from loop_kit import Err
from loop_kit.dev import _commands
from loop_kit.dev._devserver import Devserver
from loop_kit.dev._registry import BUILT_IN, SHIPPED
from loop_kit.manifest import load
from loop_kit.workspace import Workspace
from tests.commands.workspaces import MANIFEST, NAMES


@contextlib.asynccontextmanager
async def hosted(folder: Path) -> AsyncIterator[Devserver]:
    async with loop.Host() as host, Workspace(host, load(folder)) as workspace:
        devserver = Devserver(workspace, instance="i", version="v", stop=lambda: None)
        try:
            yield devserver
        finally:
            devserver.close()


async def refused(devserver: Devserver, name: str, *args: str) -> str:
    with pytest.raises(Err) as error:
        await devserver.run(name, [*args])
    return str(error.value.value)


async def test_one_registry_has_those_of_loop_kit_and_of_components(folder: Path) -> None:
    async with hosted(folder) as devserver:
        told = {one["name"]: one for one in await devserver.commands()}
    assert [*told] == [
        *BUILT_IN,
        *SHIPPED,
        *sorted(NAMES),
    ]  # not `undeclared`, which the manifest does not name
    assert told["restart"] == {
        "name": "restart",
        "summary": "End a member in good order and start it again.",
        "usage": "MEMBER",
    }
    assert told["tree"]["usage"] == "[--grants] [MEMBER]"
    # one line each, without what a terminal would obey
    assert told["echo"] == {"name": "echo", "summary": "Say what it is given.", "usage": "[WORD]..."}
    assert told["refuse"] == {"name": "refuse", "summary": "\\x1b[2J never", "usage": "\\x07"}


async def test_a_command_gets_its_arguments_and_gives_its_code_and_output(folder: Path) -> None:
    async with hosted(folder) as devserver:
        assert await devserver.run("echo", ["a b", "", "--json"]) == (0, "said 3: a b||--json")
        assert await devserver.run("fail", []) == (3, "it did not work\n")
        assert await refused(devserver, "refuse") == "refuse is not for today"
        assert await refused(devserver, "undeclared") == "there is no command 'undeclared'"
        assert await refused(devserver, "ecco") == "there is no command 'ecco'; did you mean 'echo'?"
        assert "more than 65536 characters" in await refused(devserver, "echo", "x" * 70_000)


async def test_a_command_that_traps_or_floods_costs_itself_alone(folder: Path) -> None:
    async with hosted(folder) as devserver:
        code, output = await devserver.run("trap", [])
        assert code == 134
        assert output.startswith("trap of tools ended by a fault: ")
        assert await refused(devserver, "deep") == "out of memory"  # of its own
        code, output = await devserver.run("flood", [])
        assert code == 0
        assert (
            output
            == "é" * _commands.MOST_OUTPUT
            + f"\n… {5_000_000 - _commands.MOST_OUTPUT} characters left out …\n"
        )
        assert await devserver.run("escape", []) == (0, "\\x1b]0;owned\\x07red\tand\nblue\\x0d\\x9b")
        assert await devserver.run("echo", []) == (0, "said 0: ")


async def test_the_host_serves_on_while_a_command_hangs(folder: Path) -> None:
    async with hosted(folder) as devserver:
        await devserver.run("echo", [])
        hanging = asyncio.ensure_future(devserver.run("hang", []))
        answers = 0
        while not hanging.done():
            assert (await devserver.run("echo", [str(answers)]))[0] == 0
            answers += 1
        code, output = await hanging
        assert code == 124
        assert output.startswith("hang of tools was ended: ")
        assert answers > 10  # in two seconds, beside a loop without end


async def test_so_many_at_once_and_no_more(folder: Path) -> None:
    async with hosted(folder) as devserver:
        await devserver.run("echo", [])
        hanging = [asyncio.ensure_future(devserver.run("hang", [])) for _ in range(_commands.MOST_AT_ONCE)]
        await asyncio.sleep(0)
        assert "run already" in await refused(devserver, "echo")
        for one in hanging:
            one.cancel()
        await asyncio.wait(hanging)
        assert (await devserver.run("echo", []))[0] == 0  # whoever gave up has made room


async def test_what_cannot_be_loaded_says_so_in_the_list_and_when_it_runs(folder: Path) -> None:
    (folder / "loop.toml").write_text(
        MANIFEST
        + 'gone = "gone"\nmute = "mute"\nundefined = "tools"\n'
        + '[components.gone]\npath = "gone.wasm"\n[components.mute]\npath = "mute.wasm"\n'
    )
    (folder / "mute.wasm").write_bytes(wasmtime.wat2wasm("(component)"))
    async with hosted(folder) as devserver:
        told = {one["name"]: one["summary"] for one in await devserver.commands()}
        assert told["gone"].startswith("gone cannot be loaded: component gone: there is no ")
        assert told["mute"] == "mute exports no loop:devserver/command"
        assert told["undefined"] == "tools has no such command"
        assert (await refused(devserver, "gone")).startswith("gone cannot be loaded: ")
        assert await refused(devserver, "mute") == "mute exports no loop:devserver/command"


async def test_a_command_of_loop_itself_runs_as_a_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hosted(folder) as devserver:
        code, output = await devserver.run("explain", ["tools"])
        assert (code, output.split()[0]) == (0, "tools")
        code, output = await devserver.run("explain", ["nobody"])
        assert (code, "there is no component" in output) == (3, True)
        monkeypatch.setattr(_commands, "PATIENCE", 0.05)
        began = time.monotonic()
        assert await devserver.run("explain", []) == (124, "explain went on for 0 s, and was ended\n")
        assert time.monotonic() - began < 20


async def test_a_member_sees_the_workspace_and_does_what_it_is_granted(folder: Path, tools: Path) -> None:
    async with hosted(folder) as devserver:
        seen: Any = devserver._workspace.shown
        blind, may = seen({}, "app"), seen({"allow": ["load", "restart", "stop"]}, "app")
        assert blind.members() == devserver.members()
        assert [one["name"] for one in await blind.commands()] == [*BUILT_IN, *SHIPPED, *sorted(NAMES)]
        for call in (
            blind.restart("tools"),
            blind.load("tools"),
            may.swap("x", None, False, None),
            may.apply(False, None),
        ):
            with pytest.raises(Err) as error:
                await call
            case, words = error.value.value
            assert case == "refused"
            assert "is not granted; add allow = [" in words
        with pytest.raises(loop.errors.NotGranted):
            await blind.stop()
        with pytest.raises(Err):
            await may.run("echo", [])
        await may.load("tools")
        await may.restart("tools")
        assert devserver._workspace.loaded("tools") is not None


def test_names_that_clash_or_lead_nowhere_are_refused_with_both_named(folder: Path) -> None:
    (folder / "loop.toml").write_text(MANIFEST + 'ps = "tools"\nseed = "tool"\n"Not this" = "tools"\n')
    with pytest.raises(loop.errors.ManifestError) as error:
        load(folder)
    own, nowhere, name = sorted(error.value.problems, key=lambda one: one.line or 0)
    assert own.message == '"ps" is a command of loop-kit\'s own, which "tools" cannot replace'
    assert (nowhere.message, nowhere.hint) == ('there is no component "tool"', 'did you mean "tools"?')
    assert name.message.startswith("expected a name of lowercase letters, digits and -")


def test_every_command_of_the_registry_is_one_of_loop() -> None:
    from loop_kit.cli._app import COMMANDS, app

    context = app.make_context("loop", ["ps"], resilient_parsing=True)
    assert set(BUILT_IN) <= set(COMMANDS)
    for name, usage in BUILT_IN.items():
        command = app.get_command(context, name)
        assert command is not None
        pieces = command.collect_usage_pieces(context)
        assert " ".join(piece for piece in pieces if piece != "[OPTIONS]") == usage
