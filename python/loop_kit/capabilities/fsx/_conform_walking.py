"""What every provider of `loop:fsx` must do that walks or watches."""

from __future__ import annotations

import asyncio
from typing import Any

from loop_kit import Err
from loop_kit.capabilities.fsx._conform import SUITE, code, root
from loop_kit.conform import Scene, expect

__all__: list[str] = []

_TREE = (
    "a.txt",
    ".h",
    "src/a.rs",
    "src/.git/x",
    "src/deep/b.rs",
    "src/deep/b.log",
    "out/x.o",
    "src/deep/keep.log",
)


def _grow(scene: Scene) -> None:
    for path in _TREE:
        file = scene.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    (scene.folder / "l").symlink_to("src")


def _options(*globs: str, gitignore: bool = False, hidden: bool = False, depth: int | None = None) -> Any:
    return {"globs": list(globs), "gitignore": gitignore, "hidden": hidden, "max_depth": depth}


async def _walked(fsx: Any, dir: Any, path: str, options: Any) -> list[str]:
    """All that a walk finds, with `/` after directories and `@` after links."""
    stream, end = await fsx.walking.walk(dir, path, options)
    found = []
    async for folder in stream:
        above = "" if folder.path == "." else f"{folder.path}/"
        for names, mark in (
            (folder.files, ""),
            (folder.directories, "/"),
            (folder.links, "@"),
            (folder.others, "?"),
        ):
            found += [f"{above}{name}{mark}" for name in names]
    ended = await end
    if isinstance(ended, Err):
        raise ended
    return sorted(found)


@SUITE.case("walking", "a walk finds everything, and follows no link")
async def _(scene: Scene) -> None:
    _grow(scene)
    async with scene.client(root(scene)) as fsx:
        r = await fsx.files.root("r")
        visible = (
            "a.txt l@ out/ out/x.o src/ src/a.rs src/deep/ src/deep/b.log src/deep/b.rs src/deep/keep.log"
        )
        expect(" ".join(await _walked(fsx, r, ".", _options())), visible, "all but hidden names")
        everything = await _walked(fsx, r, "./src/", _options(hidden=True))
        expect(everything[:4], ["src/.git/", "src/.git/x", "src/a.rs", "src/deep/"], "hidden ones too")
        expect(
            await _walked(fsx, r, ".", _options(depth=0)), ["a.txt", "l@", "out/", "src/"], "one directory"
        )
        expect(await _walked(fsx, r, "l", _options(depth=0)), ["l/a.rs", "l/deep/"], "where a link points to")
        for path, error in (("none", "no-entry"), ("a.txt", "not-directory"), ("..", "not-permitted")):
            expect(await code(_walked(fsx, r, path, _options()), path), error, "its error")


@SUITE.case("walking", "patterns take files in and out")
async def _(scene: Scene) -> None:
    _grow(scene)
    async with scene.client(root(scene)) as fsx:
        r = await fsx.files.root("r")
        expect(await _walked(fsx, r, ".", _options("*.rs", "!b.*")), ["src/a.rs"], "one pattern but another")
        expect(await _walked(fsx, r, ".", _options("!*.rs", "!*.log")), ["a.txt", "out/x.o"], "all but two")
        expect(await _walked(fsx, r, ".", _options("/*.txt", "x.o")), ["a.txt", "out/x.o"], "one of two")
        for pattern in ("[a", "", "!"):
            expect(await code(_walked(fsx, r, ".", _options(pattern)), pattern), "invalid", "its error")


@SUITE.case("walking", "ignored files are left out")
async def _(scene: Scene) -> None:
    _grow(scene)
    (scene.folder / ".gitignore").write_text("*.log\n/out/\n")
    (scene.folder / "src/deep/.gitignore").write_text("!keep.log\n")
    async with scene.client(root(scene)) as fsx:
        r = await fsx.files.root("r")
        found = await _walked(fsx, r, "src", _options(gitignore=True, hidden=True))
        wanted = "src/a.rs src/deep/ src/deep/.gitignore src/deep/b.rs src/deep/keep.log"
        expect(" ".join(found), wanted, "what git would not ignore")
        top = await _walked(fsx, r, ".", _options(gitignore=True, depth=0))
        expect(top, ["a.txt", "l@", "src/"], "the top without what is ignored")


@SUITE.case("walking", "very many names come in parts")
async def _(scene: Scene) -> None:
    for number in range(3000):
        (scene.folder / f"a-name-that-is-rather-long-{number:05}").touch()
    async with scene.client(root(scene)) as fsx:
        r = await fsx.files.root("r")
        expect(len(await _walked(fsx, r, ".", _options())), 3000, "all of them, once")


class _Watch:
    """Events as they come, in words."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._told: list[str] = []

    async def until(self, last: str) -> list[str]:
        """All events up to one that looks so."""
        while last not in self._told:
            async with asyncio.timeout(20):
                self._told.append(_shown(await anext(self._stream)))
        at = self._told.index(last) + 1
        told, self._told = self._told[:at], self._told[at:]
        return told


def _shown(event: Any) -> str:
    match event.case:
        case "created":
            return f"+{event.value}"
        case "modified":
            return f"~{event.value}"
        case "removed":
            return f"-{event.value}"
        case "renamed":
            return f"{event.value.old} -> {event.value.new}"
    return str(event.case)


async def _watching(
    fsx: Any, dir: Any, path: str, recursive: bool = True, debounce: int | None = None
) -> Any:
    return await fsx.watching.watch(dir, path, {"recursive": recursive, "debounce": debounce})


@SUITE.case("watching", "changes are told, of directories that were not there before too")
async def _(scene: Scene) -> None:
    for path in ("d/e", "other"):
        (scene.folder / path).mkdir(parents=True)
    (scene.folder / "d/f").write_text("")
    async with scene.client(root(scene)) as fsx:
        r = await fsx.files.root("r")
        stream, end = await _watching(fsx, r, "d")
        watch = _Watch(stream)
        (scene.folder / "d/f").write_text("1")
        expect(await watch.until("~d/f"), ["~d/f"], "a change")
        (scene.folder / "d/e/new").write_text("1")
        await watch.until("+d/e/new")
        (scene.folder / "d/e").rename(scene.folder / "d/moved")
        await watch.until("d/e -> d/moved")
        (scene.folder / "d/a/b/c").mkdir(parents=True)
        await watch.until("+d/a/b/c")
        (scene.folder / "d/a/b/c/x").write_text("2")
        await watch.until("+d/a/b/c/x")
        (scene.folder / "d/a").rename(scene.folder / "other/a")
        await watch.until("-d/a")
        (scene.folder / "other/a/b/c/x").write_text("3")  # none of its business any more
        (scene.folder / "d/f").unlink()
        told = await watch.until("-d/f")
        expect([event for event in told if "a/b" in event], [], "what was told of what is outside")
        for name in ("moved/new", "moved"):
            found = scene.folder / "d" / name
            found.rmdir() if found.is_dir() else found.unlink()
        (scene.folder / "d").rmdir()
        expect([event async for event in stream if event.case == "overflow"], [], "overflows")
        expect((await end).value.case, "no-entry", "how it ended")


@SUITE.case("watching", "what a component changes itself is told too")
async def _(scene: Scene) -> None:
    for path in ("d/e", "other/in"):
        (scene.folder / path).mkdir(parents=True)
    (scene.folder / "d/f").write_text("")
    async with scene.client(root(scene, mode="rw")) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        stream, end = await _watching(fsx, r, "d")
        flat = _Watch((await _watching(fsx, r, "d", recursive=False))[0])
        watch = _Watch(stream)
        await w.write(r, "d/f", b"1")
        expect(await watch.until("~d/f"), ["~d/f"], "a change")
        await w.write_new(r, "d/e/new", b"1")
        await watch.until("+d/e/new")
        await w.rename(r, "d/e", r, "d/moved")
        await watch.until("d/e -> d/moved")
        await w.create_directories(r, "d/a/b/c")
        await watch.until("+d/a/b/c")
        await w.append(r, "d/a/b/c/x", b"2")
        await watch.until("+d/a/b/c/x")
        await w.rename(r, "d/a", r, "other/a")
        await watch.until("-d/a")
        await w.append(r, "other/a/b/c/x", b"3")  # none of its business any more
        await w.write(r, "other/in/y", b"4")
        await w.rename(r, "other/in", r, "d/in")
        told = await watch.until("+d/in/y")
        expect([event for event in told if "a/b" in event], [], "what was told of what is outside")
        await w.remove_tree(r, "d/in")
        await watch.until("-d/in")
        await w.remove_file(r, "d/f")
        await watch.until("-d/f")
        deep = [event for event in await flat.until("-d/f") if event.count("/") > 1 and "->" not in event]
        expect(deep, [], "what a watch of one directory was told of those below")
        await w.remove_tree(r, "d")
        expect([event async for event in stream if event.case == "overflow"], [], "overflows")
        expect((await end).value.case, "no-entry", "how it ended")


@SUITE.case("watching", "what is debounced is told once")
async def _(scene: Scene) -> None:
    (scene.folder / "f").write_text("")
    async with scene.client(root(scene)) as fsx:
        r = await fsx.files.root("r")
        stream, _ = await _watching(fsx, r, ".", debounce=200)
        for number in range(100):
            (scene.folder / "f").write_text(str(number))
            (scene.folder / "passing").write_text("")
            (scene.folder / "passing").unlink()
        (scene.folder / "last").mkdir()
        expect(await _Watch(stream).until("+last"), ["~f", "+last"], "each name once, in the order of events")
        error = await code(_watching(fsx, r, ".", debounce=60_001), "too long a debounce")
        expect(error, "invalid", "its error")


@SUITE.case("watching", "too much is told as an overflow, and watching goes on")
async def _(scene: Scene) -> None:
    async with scene.client(root(scene, {"max-events": 10})) as fsx:
        r = await fsx.files.root("r")
        stream, _ = await _watching(fsx, r, ".", debounce=50)
        for number in range(50):
            (scene.folder / f"f{number}").write_text("")
        watch = _Watch(stream)
        expect(await watch.until("overflow"), ["overflow"], "that some of it is not told")
        (scene.folder / "more").mkdir()
        await watch.until("+more")


@SUITE.case("watching", "watches are bounded by the grant, and confined")
async def _(scene: Scene) -> None:
    for path in ("in/a/b", "in/c"):
        (scene.folder / path).mkdir(parents=True)
    (scene.folder / "in/up").symlink_to("..")
    grant = {"roots": {"r": {"path": str(scene.folder / "in")}}, "max-watches": 2, "max-watched": 2}
    async with scene.client(grant) as fsx:
        r = await fsx.files.root("r")
        for path, error in (("..", "not-permitted"), ("up", "not-permitted"), ("none", "no-entry")):
            expect(await code(_watching(fsx, r, path), path), error, "its error")
        expect(await code(_watching(fsx, r, "."), "four directories"), "quota", "its error")
        kept = [await _watching(fsx, r, path, recursive=False) for path in ("a", "c")]
        expect(await code(_watching(fsx, r, "a/b"), "a third watch"), "quota", "its error")
        del kept
