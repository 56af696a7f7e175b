"""`loop:fsx` in memory, a component: what it is given, what it bounds, and what its clock is."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import manifest
from loop_kit.capabilities.fsx._conform import code
from loop_kit.errors import GuestTrap, LoopError
from loop_kit.testing import VirtualClock, client, virtual_clock
from loop_kit.workspace import Workspace
from tests.capabilities.serving import guest

NAME = "component:loop:fsx/memory"


def memory(
    config: dict[str, Any] | None = None, temp: dict[str, Any] | None = None, **roots: Any
) -> AbstractAsyncContextManager[Any]:
    """A component with these roots."""
    grant = {"roots": roots} | ({} if temp is None else {"temp": temp})
    return client(
        "loop:fsx", provider=NAME, config=config, grant=grant, imports={"loop:core": loop.builtin("core")}
    )


RW = {"mode": "rw"}


async def test_what_the_config_has_is_there() -> None:
    files = {
        "docs": {
            "index.md": "# Hällo",
            "img/logo.png": {"base64": base64.b64encode(bytes(range(256))).decode()},
            "latest": {"link": "index.md"},
            "out": {"link": "../secret"},
            "empty/within": {},
            "empty": {},
        },
        "not-granted": {"f": "f"},
    }
    async with memory({"files": files}, docs={"path": "/nowhere"}) as fsx:
        assert [name for name, _ in await fsx.files.roots()] == ["docs"]
        docs = await fsx.files.root("docs")
        assert bytes(await docs.read("index.md")).decode() == "# Hällo"
        assert bytes(await docs.read("img/logo.png")) == bytes(range(256))
        assert bytes(await docs.read("latest")).decode() == "# Hällo"
        assert await code(docs.read("out"), "a link that leads out") == "not-permitted"
        assert [entry.name for entry in await docs.list("empty")] == ["within"]
        assert list(await docs.glob("**")) == ["img/logo.png", "index.md"]
        assert await code(fsx.writing.write(docs, "new", b""), "writing") == "read-only"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../f": ""}, "config.files.r.../f: expected the path of a file"),
        ({"/f": ""}, "config.files.r./f: expected the path of a file"),
        ({"d/": ""}, "config.files.r.d/: expected the path of a file"),
        ({"a//b": ""}, "config.files.r.a//b: expected the path of a file"),
        ({"f": "", "f/g": ""}, "config.files.r.f/g: `f` on the way is no directory"),
        ({"f": 1}, "config.files.r.f: expected text, { base64"),
        ({"f": {"text": ""}}, "config.files.r.f: expected text, { base64"),
        ({"f": {"base64": "%"}}, "config.files.r.f: `base64` cannot be decoded"),
        ({"f": {"base64": "", "link": "g"}}, "config.files.r.f: a file with `base64` or a `link`, not both"),
        ({"f" * 256: ""}, "is too long for a name"),
        ({"f": "12345678901"}, "config.files.r.f: more than the grant lets the root hold"),
    ],
)
async def test_what_files_cannot_be_is_said(files: dict[str, Any], words: str) -> None:
    with pytest.raises(LoopError, match=re.escape(words)):
        async with memory({"files": {"r": files}}, r=RW | {"max-bytes": 10}) as fsx:
            await fsx.files.roots()


@pytest.mark.parametrize(
    ("config", "grant", "words"),
    [
        ({"file": {}}, {}, "config.file: unknown field"),
        ({"files": []}, {}, "config.files: invalid type"),
        ({}, {"root": {}}, "grant.root: unknown field"),
        ({}, {"roots": {"a": {"mode": "w"}}}, "grant.roots.a.mode: unknown variant"),
        ({}, {"roots": {"a": {"modes": "ro"}}}, "grant.roots.a.modes: unknown field"),
        ({}, {"roots": {"a": {"links": "create"}}}, "grant.roots.a.links: links can be created where"),
        ({}, {"roots": {"a": {"max-bytes": 1}}}, "grant.roots.a: a quota bounds what is written"),
        ({}, {"roots": {"a": {"mode": "rw", "max-files": 0}}}, "grant.roots.a.max-files: invalid value"),
        ({}, {"temp": {"max-dirs": 0}}, "grant.temp.max-dirs: invalid value"),
        ({}, {"max-read": -1}, "grant.max-read: invalid value"),
        ({}, {"max-events": "9"}, "grant.max-events: invalid type"),
    ],
)
async def test_what_a_config_or_grant_may_not_say(
    config: dict[str, Any], grant: dict[str, Any], words: str
) -> None:
    imports = {"loop:core": loop.builtin("core")}
    with pytest.raises(LoopError, match=re.escape(words)):
        async with client("loop:fsx", provider=NAME, config=config, grant=grant, imports=imports) as fsx:
            await fsx.files.roots()


async def test_a_file_of_two_roots_counts_in_both() -> None:
    async with memory(a=RW | {"max-bytes": 20, "max-files": 4}, b=RW | {"max-bytes": 10}) as fsx:
        a, b, w = await fsx.files.root("a"), await fsx.files.root("b"), fsx.writing
        await w.write(a, "f", b"x" * 8)
        await w.link(a, "f", b, "f")
        assert await code(w.append(a, "f", b"xxx"), "11 bytes in b") == "quota"
        await w.append(a, "f", b"xx")
        assert await code(w.write(b, "g", b"x"), "an 11th byte in b") == "quota"
        await w.remove_file(a, "f")  # and b has it still
        await w.write(a, "g", b"x" * 20)
        assert bytes(await b.read("f")) == b"x" * 10
        assert await code(w.rename(a, "g", b, "h"), "30 bytes in b") == "quota"
        await w.create_directory(a, "d")
        await w.rename(a, "g", a, "d/g")
        assert await code(w.rename(a, "d", b, "d"), "a tree of 20 bytes") == "quota"
        await w.remove_file(b, "f")
        await w.truncate(a, "d/g", 10)
        await w.rename(a, "d", b, "d")
        await w.write(a, "g", b"x" * 20)  # all of a is free again
        assert await code(w.append(b, "d/g", b"x"), "an 11th byte in b") == "quota"
        for name in "hij":
            await w.create_directory(a, name)
        assert await code(w.create_directory(a, "k"), "a fifth name") == "quota"


async def test_what_a_stream_has_open_counts_until_it_ends() -> None:
    async with memory(r=RW | {"max-bytes": 1 << 20}) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.write(r, "f", bytes(1 << 20))
        stream, end = await fsx.streaming.read_stream(r, "f", 0)
        await w.remove_file(r, "f")
        assert await code(w.write(r, "g", b"x"), "one byte more") == "quota"
        assert sum([len(chunk) async for chunk in stream]) == 1 << 20
        await end
        await w.write(r, "g", bytes(1 << 20))


async def test_streams_are_bounded_and_given_back() -> None:
    grant = {"roots": {"r": RW}, "max-streams": 2}
    imports = {"loop:core": loop.builtin("core")}
    options = {"globs": [], "gitignore": False, "hidden": True, "max_depth": None}
    async with client("loop:fsx", provider=NAME, grant=grant, imports=imports) as fsx:
        r = await fsx.files.root("r")
        await fsx.writing.write(r, "f", bytes(1 << 20))
        for _ in range(3):
            reading, read = await fsx.streaming.read_stream(r, "f", 0)
            walking, walked = await fsx.walking.walk(r, ".", options)
            assert await code(fsx.streaming.read_stream(r, "f", 0), "a third stream") == "quota"
            assert await code(fsx.walking.walk(r, ".", options), "a third stream") == "quota"
            async for _ in walking:
                pass
            await reading.aclose()  # unread
            assert [await end for end in (read, walked)] == [loop.Ok(None)] * 2


async def test_ends_that_nobody_awaits_harm_nothing() -> None:
    options = {"globs": [], "gitignore": False, "hidden": True, "max_depth": None}
    async with memory({"files": {"r": {"f": "text"}}}, r=RW) as fsx:
        r = await fsx.files.root("r")
        for _ in range(3):
            reading, _ = await fsx.streaming.read_stream(r, "f", 0)
            assert b"".join([bytes(chunk) async for chunk in reading]) == b"text"
            unread, _ = await fsx.streaming.read_stream(r, "f", 0)
            await unread.aclose()
            walking, _ = await fsx.walking.walk(r, ".", options)
            assert [folder.path async for folder in walking] == ["."]


async def test_a_stream_that_breaks_off_leaves_the_old_file() -> None:
    async with memory(r=RW | {"max-bytes": 10, "max-files": 2}) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.write(r, "f", b"old")
        error = await code(
            fsx.streaming.write_stream(r, "f", ("atomic", True), chunks(b"x" * 6, b"x" * 6)), "too long"
        )
        assert error == "quota"
        assert bytes(await r.read("f")) == b"old"
        assert [entry.name for entry in await r.list(".")] == ["f"]
        await w.write(r, "g", b"x" * 7)  # what it took was given back


async def test_an_atomic_stream_whose_place_is_gone_or_taken_is_refused() -> None:
    async with memory(r=RW | {"max-files": 3}) as fsx:
        r, w, write = await fsx.files.root("r"), fsx.writing, fsx.streaming.write_stream

        async def meanwhile(change: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
            yield b"x"
            await change()
            yield b"y"

        await w.create_directory(r, "d")
        gone = meanwhile(lambda: w.remove_directory(r, "d"))
        assert await code(write(r, "d/f", ("atomic", False), gone), "its directory") == "no-entry"
        taken = meanwhile(lambda: w.create_directories(r, "d/e"))
        assert await code(write(r, "d", ("atomic", False), taken), "its name") == "is-directory"
        assert [entry.name for entry in await r.list("d")] == ["e"]
        await w.write(r, "f", b"")  # the third: what they took was given back
        assert await code(w.write(r, "g", b""), "a fourth") == "quota"


async def chunks(*some: bytes) -> AsyncIterator[bytes]:
    for chunk in some:
        yield chunk


@asynccontextmanager
async def timed(**grant: Any) -> AsyncIterator[tuple[Any, VirtualClock]]:
    """A component over a clock that a test moves."""
    async with loop.Host() as host:
        clock = await virtual_clock(host)
        settings = loop.Settings({}, {"roots": {"r": RW}} | grant)
        imports = {**clock.imports, "loop:provider/settings": settings}
        app = await host.load(loop.shipped("fsx/memory"), imports)
        yield app.exports, clock


async def test_times_are_those_of_the_clock_below() -> None:
    async with timed() as (fsx, clock):
        r = await fsx.files.root("r")
        for year in (2001, 2030):
            await clock.set(datetime(year, 1, 1, tzinfo=UTC))
            await fsx.writing.append(r, "f", b"x")
            modified = (await r.stat("f")).modified
            assert datetime.fromtimestamp(modified.seconds, UTC).year == year


def shown(event: Any) -> Any:
    return event.case, event.value


async def watching(fsx: Any, dir: Any, debounce: int | None = None) -> Any:
    stream, _ = await fsx.watching.watch(dir, ".", {"recursive": True, "debounce": debounce})
    return stream


async def test_what_is_debounced_is_told_once_by_the_clock_below() -> None:
    async with timed() as (fsx, clock):
        r, w = await fsx.files.root("r"), fsx.writing
        await w.write(r, "f", b"")
        events = await watching(fsx, r, 1000)
        for _ in range(5):
            await w.append(r, "f", b"x")
            await w.write(r, "passing", b"")
            await w.remove_file(r, "passing")
            await clock.advance(0.9)
        await w.create_directory(r, "d")
        await clock.advance(0.9)
        assert await clock.waiting() == 1
        await clock.advance(0.1)
        assert [shown(await anext(events)) for _ in range(2)] == [("modified", "f"), ("created", "d")]
        # at the latest after ten times as long, however busy it is
        for _ in range(12):
            await w.append(r, "f", b"x")
            await clock.advance(0.9)
        assert shown(await anext(events)) == ("modified", "f")


async def test_too_much_is_told_as_an_overflow() -> None:
    async with timed(**{"max-events": 10}) as (fsx, clock):
        r, w = await fsx.files.root("r"), fsx.writing
        events = await watching(fsx, r, 50)
        for number in range(50):
            await w.write(r, f"f{number}", b"")
        await clock.advance(1)
        assert (await anext(events)).case == "overflow"
        await w.create_directory(r, "more")
        await clock.advance(1)
        assert shown(await anext(events)) == ("created", "more")


async def test_watches_that_nobody_reads_any_more_give_their_place() -> None:
    async with timed(**{"max-watches": 2}) as (fsx, _):
        r = await fsx.files.root("r")
        for _ in range(5):
            one, two = await watching(fsx, r), await watching(fsx, r)
            assert await code(watching(fsx, r), "a third watch") == "quota"
            await one.aclose()
            await two.aclose()
        kept = await watching(fsx, r)
        await fsx.writing.write(r, "f", b"")
        assert shown(await anext(kept)) == ("created", "f")


async def test_a_watch_ends_whose_tree_grows_too_large() -> None:
    async with timed(**{"max-watched": 2}) as (fsx, _):
        r, w = await fsx.files.root("r"), fsx.writing
        stream, end = await fsx.watching.watch(r, ".", {"recursive": True, "debounce": None})
        await w.create_directory(r, "a")
        await w.remove_directory(r, "a")
        await w.create_directories(r, "a/b")
        assert [shown(event)[0] async for event in stream][-1] == "created"
        assert (await end).value.case == "quota"
        assert await code(watching(fsx, r), "three directories") == "quota"


async def appended(writing: Any, dir: Any, path: str, mebibytes: int) -> None:
    for _ in range(mebibytes):
        await writing.append(dir, path, bytes(1 << 20))


async def test_what_memory_has_no_room_for_is_no_trap() -> None:
    async with loop.Host() as host:
        settings = loop.Settings({}, {"roots": {"r": RW}})
        imports = {"loop:core": loop.builtin("core"), "loop:provider/settings": settings}
        limits = loop.Limits(memory=32 << 20)
        app = await host.load(loop.shipped("fsx/memory"), imports, limits=limits)
        fsx: Any = app.exports
        r, w = await fsx.files.root("r"), fsx.writing
        await w.write(r, "f", b"kept")
        assert await code(w.truncate(r, "f", 100 << 20), "more than there is") == "insufficient-space"
        assert (
            await code(w.write_range(r, "f", 100 << 20, b"x"), "more than there is") == "insufficient-space"
        )
        assert await code(appended(w, r, "g", 32), "more than there is") == "insufficient-space"
        written = (await r.stat("g")).size >> 20
        assert 4 < written < 32
        assert bytes(await r.read("f")) == b"kept"
        await w.remove_file(r, "g")
        await w.write(r, "g", bytes(4 << 20))


async def test_temporary_directories_go_with_a_guest_that_traps(tmp_path: Path) -> None:
    async with loop.Host(cache=tmp_path) as host:
        settings = loop.Settings({}, {"temp": {"max-dirs": 1}})
        imports = {"loop:core": loop.builtin("core"), "loop:provider/settings": settings}
        files = await host.load(loop.shipped("fsx/memory"), imports)
        app = await host.load(guest("temporary"), {"loop:fsx": files})
        await app.call("use", False)
        for _ in range(3):
            with pytest.raises(GuestTrap):
                await app.call("use", True)
        fsx: Any = files.exports
        kept = await fsx.temporary.temp_dir()
        assert await code(fsx.temporary.temp_dir(), "a second one") == "quota"
        kept.close()


async def test_a_manifest_puts_it_where_another_was(tmp_path: Path) -> None:
    """With the grant as it stands, its paths too."""
    (tmp_path / "site.wasm").write_bytes(guest("streaming"))
    text = """
        [components.site]
        path = "site.wasm"
        imports."loop:fsx" = { provider = "files", grant.roots.docs = { path = "docs" } }

        [links]
        "loop:core" = { provider = "core" }

        [providers.core]
        use = "builtin:core"

        [providers.files]
        use = "component:loop:fsx/memory"
        config.files.docs = { "index.md" = "# Hello", "old/index.md" = { link = "../index.md" } }
    """
    declared = manifest.loads(text, tmp_path / "loop.toml")
    async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
        site = await workspace.load("site")
        for path in ("index.md", "old/index.md"):
            data, _ = await site.call("stream", "docs", path, 0, 100, 1 << 16)
            assert bytes(data) == b"# Hello"
