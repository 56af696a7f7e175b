"""What every provider of `loop:fsx` must do."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loop_kit import Err, Settings, builtin
from loop_kit.conform import Provided, Scene, Suite, expect, fails

__all__ = ["SUITE", "code", "in_memory", "root"]

_NO_BLAKE3 = "the standard library has no BLAKE3"
_NO_IGNORING = "the standard library cannot read `.gitignore` files"
_ITS_OWN = "nobody else changes what it keeps in its own memory"


def _core(_: Mapping[str, Any]) -> dict[str, Any]:
    """What the component's clock and timers are."""
    return {"loop:core": builtin("core")}


def in_memory(grant: Mapping[str, Any]) -> Settings:
    """A grant for the component, with what its roots have on the host in its config."""
    files = {name: dict(_seeds(Path(given["path"]))) for name, given in grant.get("roots", {}).items()}
    return Settings({"files": files}, grant)


def _seeds(folder: Path) -> Iterator[tuple[str, Any]]:
    for above, folders, files in os.walk(folder):
        for path in (Path(above, name) for name in (*folders, *files)):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield name, {"link": os.readlink(path)}
            elif path.is_dir():
                yield name, {}
            elif path.is_file():
                yield name, {"base64": base64.b64encode(path.read_bytes()).decode()}


SUITE = Suite(
    "loop:fsx",
    (
        Provided("builtin:fsx"),
        Provided(
            "python:loop_kit.capabilities.fsx:Files",
            ("files", "writing", "digests", "temporary", "streaming", "walking"),  # it cannot watch
            without={
                "digests: BLAKE3 of files of any size": _NO_BLAKE3,
                "walking: ignored files are left out": _NO_IGNORING,
            },
        ),
        Provided(
            "component:loop:fsx/memory",
            imports=_core,
            settings=in_memory,
            without={
                "watching: changes are told, of directories that were not there before too": _ITS_OWN,
                "watching: what is debounced is told once": _ITS_OWN,
                "watching: too much is told as an overflow, and watching goes on": _ITS_OWN,
            },
        ),
    ),
)


def root(scene: Scene, grant: Mapping[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """A grant with the case's folder as the root `r`; `keys`: what it says of that root."""
    return {"roots": {"r": {"path": str(scene.folder), **keys}}, **(grant or {})}


async def code(made: Any, what: str) -> str:
    """The error-code that a call fails with."""
    error = await fails(made, Err, what)
    assert isinstance(error, Err)
    value: Any = error.value
    return str(value.case)


@SUITE.case("files", "roots are known by their names")
async def _(scene: Scene) -> None:
    for name in ("b", "a"):
        (scene.folder / name).mkdir()
        (scene.folder / name / "f").write_text(name)
    grant = {"roots": {name: {"path": str(scene.folder / name)} for name in ("b", "a")}}
    async with scene.client(grant) as fsx:
        roots = await fsx.files.roots()
        expect([name for name, _ in roots], ["a", "b"], "the names, sorted")
        expect([bytes(await r.read("f")) for _, r in roots], [b"a", b"b"], "what is in them")
        expect(await code(fsx.files.root("c"), "a root that was not granted"), "not-permitted", "its error")


@SUITE.case("files", "nothing leads out of a root")
async def _(scene: Scene) -> None:
    (scene.folder / "in").mkdir()
    (scene.folder / "secret").write_text("SECRET")
    (scene.folder / "in/link").symlink_to("../secret")
    (scene.folder / "in/absolute").symlink_to(scene.folder / "secret")
    async with scene.client({"roots": {"r": {"path": str(scene.folder / "in")}}}) as fsx:
        r = await fsx.files.root("r")
        for path in (
            "../secret",
            "/etc/passwd",
            "link",
            "absolute",
            "x/../../secret",
            str(scene.folder / "secret"),
        ):
            said = await code(r.read(path), path)
            expect(said in ("not-permitted", "no-entry"), True, f"{path} is refused, and it says {said}")


@SUITE.case("files", "whole files, ranges, and what is not there")
async def _(scene: Scene) -> None:
    data = bytes(range(256)) * 1000
    (scene.folder / "f").write_bytes(data)
    async with scene.client(root(scene)) as fsx:
        r = await fsx.files.root("r")
        expect(bytes(await r.read("f")), data, "the whole file")
        expect(bytes(await r.read_range("f", 1000, 500)), data[1000:1500], "a range")
        expect(bytes(await r.read_range("f", len(data) - 3, 500)), data[-3:], "a range over the end")
        expect(bytes(await r.read_range("f", len(data), 5)), b"", "a range behind the end")
        expect(await code(r.read("g"), "g"), "no-entry", "a file that is not there")
        expect(await code(r.read("."), "."), "is-directory", "a directory read as a file")
        expect(await code(r.list("f"), "f"), "not-directory", "a file listed as a directory")


@SUITE.case("files", "a read is bounded by the grant")
async def _(scene: Scene) -> None:
    (scene.folder / "f").write_bytes(b"x" * 101)
    async with scene.client(root(scene, {"max-read": 100})) as fsx:
        r = await fsx.files.root("r")
        expect(await code(r.read("f"), "f"), "file-too-large", "101 bytes where 100 may be read")
        expect(len(await r.read_range("f", 0, 100)), 100, "100 of them")


@SUITE.case("streaming", "a file as a stream, from any byte on")
async def _(scene: Scene) -> None:
    data = bytes(range(251)) * 5000
    (scene.folder / "f").write_bytes(data)
    async with scene.client(root(scene)) as fsx:
        r = await fsx.files.root("r")
        for offset in (0, 1, 700_000, len(data), len(data) + 9):
            stream, end = await fsx.streaming.read_stream(r, "f", offset)
            got = b"".join([bytes(chunk) async for chunk in stream])
            expect(got == data[offset:], True, f"the bytes from {offset} on")
            await end


# The cases of the other interfaces add themselves.
from loop_kit.capabilities.fsx import _conform_walking, _conform_writing  # noqa: E402, F401
