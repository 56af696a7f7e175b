"""Types of WIT, which follow it by themselves: made before what is built with them, once, and by nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loop_kit import manifest
from loop_kit.dev import Begun, Builder, Done, Event, Failed, Member
from loop_kit.dev._bindings import Declared, declared
from tests.dev.workspaces import Session, Workspace, built, component, provider, session

OF_A = Member("bind", "components.a.bind")


def wit(*functions: str) -> str:
    body = " ".join(f"{name}: func(x: u32) -> u32;" for name in functions)
    return f"package acme:kv@0.1.0;\ninterface store {{\n  {body}\n}}\n"


def begun(s: Session) -> Counter[str]:
    """What was begun since the last time that this was asked."""
    found = Counter(str(event.member) for event in s.told if isinstance(event, Begun))
    s.told.clear()
    return found


@pytest.fixture
def two(ws: Workspace) -> Workspace:
    """Of whom one has types, among its sources, of WIT that is not."""
    ws.build("a", of="a/src", bind={"wit": "a/wit", "python": "a/src/bindings.py"})
    ws.build("b", of="b/src")
    ws.write("a/src/main.js", "a")
    ws.write("b/src/main.js", "b")
    ws.write("a/wit/kv.wit", wit("get"))
    return ws


async def test_a_change_of_wit_is_one_bind_and_one_build(two: Workspace) -> None:
    async with session(two) as s:
        assert begun(s) == {"components.a.bind": 1, "components.a": 1, "components.b": 1}
        assert two.ran() == {"a": 1, "b": 1}
        for number in range(3):
            two.write("a/wit/kv.wit", wit("get", f"put{number}"))
            await s.quiet()
            assert begun(s) == {"components.a.bind": 1, "components.a": 1}
            assert two.ran() == {"a": 1}
            assert f"def put{number}" in s.output("a")
        # the component's own sources have nothing bound
        two.write("a/src/main.js", "a 2")
        await s.quiet()
        assert begun(s) == {"components.a": 1}
    async with session(two) as s:
        assert begun(s) == {}


async def test_wit_among_the_sources_is_built_once_too(ws: Workspace) -> None:
    ws.build("a", of="a", sources=None, bind={"wit": "a/wit", "python": "a/bindings.py"})
    ws.write("a/wit/kv.wit", wit("get"))
    async with session(ws) as s:
        begun(s)
        for number in range(3):
            ws.write("a/wit/kv.wit", wit("get", f"put{number}"))
            await s.quiet()
            assert begun(s) == {"components.a.bind": 1, "components.a": 1}
            assert f"def put{number}" in s.output("a")
            assert f"put{number}:" in s.output("a")
        ws.write("a/wit/deps/x/x.wit", "package acme:x;\ninterface x { y: func(); }\n")
        await s.quiet()
        assert begun(s) == {"components.a.bind": 1, "components.a": 1}


async def test_what_is_made_starts_nothing(two: Workspace) -> None:
    made = two.folder / "a/src/bindings.py"
    async with session(two) as s:
        begun(s)
        text = made.read_text()
        made.touch()
        made.write_text(text)
        await s.quiet()
        assert begun(s) == {}
        made.write_text(text + "\n")
        await s.quiet()
        assert begun(s) == {"components.a": 1}  # it is a source as any other, and nothing is bound for it
        assert made.read_text() == text + "\n"
    # who begins anew has what the WIT says
    async with session(two) as s:
        assert begun(s) == {"components.a.bind": 1, "components.a": 1}
        assert made.read_text() == text
    made.unlink()
    async with session(two) as s:
        assert begun(s)["components.a.bind"] == 1
        assert made.read_text() == text


async def test_wit_that_is_wrong_holds_back_what_is_built_with_it(two: Workspace) -> None:
    async with session(two) as s:
        two.ran()
        was, types = s.output("a"), (two.folder / "a/src/bindings.py").read_text()
        two.write("a/wit/kv.wit", wit("get", "pu t"))
        await s.quiet()
        [failed] = s.failures()
        assert failed.member == OF_A
        assert [(p.file, p.line) for p in failed.places] == [("a/wit/kv.wit", 3)]
        assert "> 3 |" in failed.places[0].excerpt
        assert failed.places[0].message in failed.reason
        # neither then, nor when something else changes
        two.write("a/src/main.js", "a 2")
        await s.quiet()
        assert two.ran() == {}
        assert s.output("a") == was
        assert (two.folder / "a/src/bindings.py").read_text() == types
        assert len(s.failures()) == 1
        # what was held back is built once the WIT is as it was, though the types are those of before
        two.write("a/wit/kv.wit", wit("get"))
        await s.quiet()
        assert two.ran() == {"a": 1}
        assert "a 2" in s.output("a")


async def test_wit_that_is_wrong_at_first(two: Workspace) -> None:
    two.write("a/wit/kv.wit", "package")
    done = await built(two)
    assert Counter(made.member for made in done) == {OF_A: 2, component("b"): 1}
    assert Counter(type(made) for made in done) == {Failed: 2, Done: 1}
    assert two.ran() == {"b": 1}
    two.write("a/wit/kv.wit", wit("get"))
    assert {made.member for made in await built(two) if isinstance(made, Done)} == {OF_A, component("a")}


@pytest.mark.parametrize("beside", [True, False], ids=["with the WIT beside it", "with the WIT elsewhere"])
async def test_a_provider_changes_once(ws: Workspace, beside: bool) -> None:
    at = "wit/kv.wit" if beside else "elsewhere/kv.wit"
    bind = {"python": "near_types.py"} | ({} if beside else {"wit": "elsewhere"})
    ws.provider("near", "sidecar:python:near:Near", bind=bind)
    ws.write("near.py", "import near_types")
    ws.write(at, wit("get"))
    async with session(ws) as s:
        for number in range(3):
            s.changed.clear()
            begun(s)
            # in one step: a file that is empty for a moment is another change of the provider
            ws.write("new", wit("get", f"put{number}")).rename(ws.folder / at)
            await s.quiet()
            assert begun(s) == {"providers.near.bind": 1}
            assert Counter(m for members in s.changed for m in members) == {
                Member("bind", "providers.near.bind"): 1,
                provider("near"): 1,
            }


async def test_others_who_use_the_types_wait_for_them(ws: Workspace) -> None:
    ws.provider("near", "sidecar:python:near:Near", bind={"python": "shared/types.py"})
    ws.write("near.py")
    ws.write("wit/kv.wit", wit("get"))
    ws.build("a", of="shared", sources=["shared", "wit"])
    async with session(ws) as s:
        assert ws.ran() == {"a": 1}
        assert "def get" in s.output("a")
        ws.write("wit/kv.wit", wit("put"))
        await s.quiet()
        assert ws.ran() == {"a": 1}
        assert "def put" in s.output("a")


async def test_another_manifest_says_of_other_types(two: Workspace) -> None:
    async with Builder(manifest.load(two.folder)) as builder:
        await builder.build(await builder.scan())
        two.build("a", of="a/src", bind={"wit": "a/wit", "python": "a/src/types.py", "interfaces": ["store"]})
        changed = await builder.replace(manifest.load(two.folder))
        assert OF_A in changed
        await builder.build(changed)
        assert "def get" in (two.folder / "a/src/types.py").read_text()
        two.build("a", of="a/src")
        await builder.replace(manifest.load(two.folder))
        assert OF_A not in builder.members
        assert OF_A not in await builder.changed([two.write("a/wit/kv.wit", wit("put"))])


async def test_a_file_of_somebody_else_is_not_written_over(two: Workspace) -> None:
    own = two.write("a/src/bindings.py", "my own code")
    reason = f"components.a.bind: {own} was not made by `loop bind`: remove it, or name another file"
    assert {made.reason for made in await built(two) if isinstance(made, Failed)} == {reason}
    assert own.read_text() == "my own code"


async def test_there_is_no_wit(two: Workspace) -> None:
    two.build("a", of="a/src", bind={"python": "a/src/bindings.py"})
    reason = f"components.a.bind: there is no {two.folder}/wit: `wit` says where the WIT is"
    assert {made.reason for made in await built(two) if isinstance(made, Failed)} == {reason}


async def test_what_is_made_is_told_once_whoever_waits(two: Workspace) -> None:
    told: list[Event] = []
    async with Builder(manifest.load(two.folder), told.append) as builder:
        await builder.scan()
        await builder.build([component("a")])
        assert [str(e.member) for e in told if isinstance(e, Begun)] == [
            "components.a.bind",
            "components.a",
        ]


def only(ws: Workspace) -> Declared:
    [made] = declared(manifest.load(ws.folder))
    return made


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({}, "wit"),
        ({"build": "make"}, "wit"),
        ({"build": "cd a && make"}, "a/wit"),
        ({"build": "cd a && make", "bind": {"wit": "b/x.wit", "typescript": "t.d.ts"}}, "b/x.wit"),
    ],
)
def test_where_the_wit_of_a_component_is(ws: Workspace, keys: Mapping[str, Any], found: str) -> None:
    ws.write("a/x")
    ws.component("a", path="a.wasm", **({"bind": {"typescript": "t.d.ts"}} | dict(keys)))
    made = only(ws)
    assert made.wit == ws.folder / found
    assert made.guest


@pytest.mark.parametrize(
    ("use", "there", "found"),
    [
        ("sidecar:python:words:Words", ["words.py"], "wit"),
        ("sidecar:python:a.words:Words", ["a/words.py"], "a/wit"),
        ("sidecar:python:a:Words", ["a/__init__.py"], "a/wit"),
        ("sidecar:node:a/src/words.js", ["a/src/wit/x", "a/wit/x"], "a/src/wit"),
        ("sidecar:node:a/src/words.js", ["a/wit/x"], "a/wit"),
        ("sidecar:node:a/src/words.js", [], "a/src/wit"),
        ("sidecar:./words", [], "wit"),
    ],
)
def test_where_the_wit_of_a_provider_is(ws: Workspace, use: str, there: list[str], found: str) -> None:
    for path in there:
        ws.write(path)
    ws.provider("a", use, bind={"typescript": "t.d.ts"})
    made = only(ws)
    assert made.wit == ws.folder / found
    assert not made.guest


def test_both_languages(ws: Workspace) -> None:
    ws.write("wit/kv.wit", wit("get"))
    ws.provider("a", "sidecar:./a", bind={"python": "t.py", "typescript": "deep/er/t.d.ts"})
    python, typescript = ws.folder / "t.py", ws.folder / "deep/er/t.d.ts"
    assert only(ws).write(check=True) == {python: True, typescript: True}
    assert not python.exists()
    assert only(ws).write() == {python: True, typescript: True}
    assert only(ws).write() == {python: False, typescript: False}
    assert "class StoreProvider" in python.read_text()
    assert "interface StoreProvider" in typescript.read_text()


def test_types_for_a_component_are_its_own(ws: Workspace) -> None:
    ws.write("wit/kv.wit", wit("get") + "world guest { import store; }\n")
    ws.component("a", path="a.wasm", bind={"typescript": "t.d.ts", "world": "guest"})
    only(ws).write()
    assert "declare module 'acme:kv/store@0.1.0'" in (ws.folder / "t.d.ts").read_text()


def test_paths_are_of_the_workspace(ws: Workspace) -> None:
    assert isinstance(ws.folder, Path)
    ws.component("a", path="a.wasm", bind={"python": "./x/../t.py"})
    assert only(ws).files == (("python", ws.folder / "t.py"),)
