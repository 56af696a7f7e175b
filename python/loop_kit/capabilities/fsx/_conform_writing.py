"""What every provider of `loop:fsx` must do that changes something."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

from loop_kit import Err
from loop_kit.capabilities.fsx._conform import SUITE, code, root
from loop_kit.conform import Scene, expect, fails

__all__: list[str] = []


def _rw(scene: Scene, **keys: Any) -> dict[str, Any]:
    """A grant to change the case's folder, the root `r`."""
    return root(scene, mode="rw", **keys)


@SUITE.case("writing", "files are written, added to, cut and made new")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene)) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.write(r, "f", b"0123456789")
        await w.write(r, "f", b"abc")
        expect(bytes(await r.read("f")), b"abc", "what was written last")
        await w.append(r, "f", b"de")
        await w.append(r, "g", b"g")
        await w.write_range(r, "f", 1, b"X")
        await w.write_range(r, "f", 7, b"!")
        expect(bytes(await r.read("f")), b"aXcde\0\0!", "with what was added and a gap")
        await w.truncate(r, "f", 2)
        await w.truncate(r, "f", 3)
        expect(bytes(await r.read("f")), b"aX\0", "what was cut off does not come back")
        await w.write_new(r, "n", b"new")
        expect(await code(w.write_new(r, "n", b""), "twice new"), "exist", "its error")
        expect(await code(w.truncate(r, "none", 0), "what is not there"), "no-entry", "its error")
        expect(await code(w.write(r, ".", b""), "a directory"), "is-directory", "its error")
        expect(await code(w.write(r, "f/x", b""), "below a file"), "not-directory", "its error")
        expect(await code(w.write_range(r, "f", 1 << 63, b"x"), "too far"), "file-too-large", "its error")
        expect([(e.name, e.size) for e in await r.list(".")], [("f", 3), ("g", 1), ("n", 3)], "all files")


@SUITE.case("writing", "a file is replaced in one step")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene)) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.create_directory(r, "d")
        for durable in (False, True):
            for data in (b"old", b"new" * 100_000):
                await w.write_atomic(r, "d/f", data, durable)
                expect(bytes(await r.read("d/f")) == data, True, "what was written")
        expect(await code(w.write_atomic(r, "d", b"", False), "a directory"), "is-directory", "its error")
        expect([e.name for e in await r.list("d")], ["f"], "nothing beside it")


@SUITE.case("writing", "names are made, moved and removed")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene)) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.create_directories(r, "a/b//c/")
        await w.create_directories(r, "a/./b/../b/c")
        expect(await code(w.create_directory(r, "a"), "one that is there"), "exist", "its error")
        expect(await code(w.create_directory(r, "x/y"), "below nothing"), "no-entry", "its error")
        await w.write(r, "a/f", b"F")
        await w.rename(r, "a/f", r, "a/b/g")
        await w.rename(r, "a/b/g", r, "./a/b/g")
        expect(bytes(await r.read("a/b/g")), b"F", "the file under its new name")
        expect(await code(w.rename(r, "a", r, "a/b/a"), "into itself"), "invalid", "its error")
        expect(await code(w.rename(r, "none", r, "m"), "nothing"), "no-entry", "its error")
        await w.write(r, "h", b"H")
        await w.rename(r, "h", r, "a/b/g")
        expect(bytes(await r.read("a/b/g")), b"H", "the file that replaced another")
        expect(await code(w.remove_file(r, "a"), "a directory"), "is-directory", "its error")
        expect(await code(w.remove_directory(r, "a"), "a full one"), "not-empty", "its error")
        await w.remove_file(r, "a/b/g")
        await w.remove_directory(r, "a/b/c")
        await w.remove_tree(r, "a")
        expect(list(await r.list(".")), [], "nothing")
        expect(await code(w.remove_tree(r, "."), "the root"), "invalid", "its error")


@SUITE.case("writing", "files and trees are copied")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene)) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.create_directories(r, "d/e")
        await w.write(r, "d/x", b"X" * 300_000)
        await w.write(r, "d/e/y", b"Y")
        expect(await w.copy(r, "d/x", r, "d/z"), 300_000, "bytes copied")
        expect(await code(w.copy(r, "d/x", r, "./d/x"), "onto itself"), "invalid", "its error")
        copied = await w.copy_tree(r, "d", r, "d/e/copy")
        expect((copied.entries, copied.bytes, copied.left_out), (5, 600_001, 0), "what was copied")
        expect(sorted(await r.glob("d/e/copy/**")), ["d/e/copy/e/y", "d/e/copy/x", "d/e/copy/z"], "the copy")
        expect(await code(w.copy_tree(r, "d", r, "d/e/copy"), "onto it"), "exist", "its error")


@SUITE.case("writing", "a second name is the same file")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene)) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.write(r, "f", b"1")
        await w.link(r, "f", r, "g")
        await w.write(r, "g", b"both")
        expect(bytes(await r.read("f")), b"both", "what was written by its other name")
        await w.remove_file(r, "f")
        expect(bytes(await r.read("g")), b"both", "the file by the name that is left")


@SUITE.case("writing", "links are made where the grant says so, and lead nowhere out")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene, links="create")) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.create_directory(r, "d")
        await w.write(r, "f", b"F")
        await w.symlink(r, "../f", "d/l")
        expect(bytes(await r.read("d/l")), b"F", "what it points to")
        expect(await r.read_link("d/l"), "../f", "where it points to")
        expect((await r.stat("d/l")).kind.name, "SYMBOLIC_LINK", "what it is")
        expect(await code(w.link(r, "d/l", r, "h"), "a second name of a link"), "unsupported", "its error")
        for target in ("/etc", "../../out", "x/../../../out"):
            expect(await code(w.symlink(r, target, "d/o"), target), "not-permitted", "its error")
        expect(await code(r.read_link("f"), "no link"), "invalid", "its error")
        copied = await w.copy_tree(r, "d", r, "e")
        expect((copied.entries, copied.left_out), (1, 1), "a link that leads out of the tree is left out")


@SUITE.case("writing", "links that are there are followed where the grant says so")
async def _(scene: Scene) -> None:
    (scene.folder / "d").mkdir()
    (scene.folder / "f").write_text("F")
    (scene.folder / "d/l").symlink_to("../f")
    async with scene.client(_rw(scene)) as fsx:
        r = await fsx.files.root("r")
        expect(await code(fsx.writing.symlink(r, "f", "l"), "a link"), "not-permitted", "its error")
        await fsx.writing.write(r, "d/l", b"through it")
        expect(bytes(await r.read("f")), b"through it", "what was written through the link")
    async with scene.client(_rw(scene, links="refuse")) as fsx:
        r = await fsx.files.root("r")
        expect(await code(r.read("d/l"), "through a link"), "loop", "its error")
        expect(await code(fsx.writing.write(r, "d/l", b""), "through a link"), "loop", "its error")


@SUITE.case("writing", "times are set")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene)) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.write(r, "f", b"")
        instant = {"seconds": 1_000_000_000, "nanoseconds": 500_000_000}
        await w.set_times(r, "f", None, instant)
        found = (await r.stat("f")).modified
        expect((found.seconds, found.nanoseconds), (1_000_000_000, 500_000_000), "when it was modified")
        wrong = {"seconds": 0, "nanoseconds": 10**9}
        expect(await code(w.set_times(r, "f", None, wrong), "no time"), "invalid", "its error")


@SUITE.case("writing", "nothing is changed where only reading is granted")
async def _(scene: Scene) -> None:
    (scene.folder / "f").write_text("F")
    async with scene.client(root(scene)) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        tried = {
            "write": w.write(r, "f", b"x"),
            "write-new": w.write_new(r, "g", b"x"),
            "append": w.append(r, "f", b"x"),
            "write-range": w.write_range(r, "f", 0, b"x"),
            "write-atomic": w.write_atomic(r, "f", b"x", False),
            "truncate": w.truncate(r, "f", 0),
            "create-directory": w.create_directory(r, "d"),
            "create-directories": w.create_directories(r, "d"),
            "rename": w.rename(r, "f", r, "g"),
            "remove-file": w.remove_file(r, "f"),
            "remove-directory": w.remove_directory(r, "f"),
            "remove-tree": w.remove_tree(r, "f"),
            "copy": w.copy(r, "f", r, "g"),
            "copy-tree": w.copy_tree(r, ".", r, "g"),
            "symlink": w.symlink(r, "f", "g"),
            "link": w.link(r, "f", r, "g"),
            "set-times": w.set_times(r, "f", None, None),
        }
        for name, made in tried.items():
            expect(await code(made, name), "read-only", f"the error of {name}")
        expect([(e.name, e.size) for e in await r.list(".")], [("f", 1)], "the files")


@SUITE.case("writing", "nothing is changed outside")
async def _(scene: Scene) -> None:
    (scene.folder / "in/d").mkdir(parents=True)
    (scene.folder / "in/f").write_text("F")
    (scene.folder / "secret").write_text("SECRET")
    (scene.folder / "in/up").symlink_to("..")
    (scene.folder / "in/out").symlink_to("../secret")
    (scene.folder / "in/dangling").symlink_to("../new")
    grant = {"roots": {"r": {"path": str(scene.folder / "in"), "mode": "rw", "links": "create"}}}
    async with scene.client(grant) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        for path in ("../secret", "up/secret", "/etc/none", "d/../../secret"):
            for name, made in {
                "write": w.write(r, path, b"x"),
                "append": w.append(r, path, b"x"),
                "write-range": w.write_range(r, path, 0, b"x"),
                "write-atomic": w.write_atomic(r, path, b"x", False),
                "truncate": w.truncate(r, path, 0),
                "create-directory": w.create_directory(r, path),
                "rename from": w.rename(r, path, r, "stolen"),
                "rename to": w.rename(r, "f", r, path),
                "remove-file": w.remove_file(r, path),
                "remove-tree": w.remove_tree(r, path),
                "copy from": w.copy(r, path, r, "stolen"),
                "copy to": w.copy(r, "f", r, path),
                "link from": w.link(r, path, r, "stolen"),
                "link to": w.link(r, "f", r, path),
                "symlink": w.symlink(r, "f", path),
                "set-times": w.set_times(r, path, None, None),
                "digest": fsx.digests.digest(r, path, "sha256"),
            }.items():
                expect(await code(made, name), "not-permitted", f"the error of {name} with {path}")
        for path in ("out", "dangling"):
            expect(await code(w.write(r, path, b"x"), path), "not-permitted", f"the error of writing {path}")
            await w.write_atomic(r, path, b"mine", False)
    expect((scene.folder / "secret").read_text(), "SECRET", "the file outside")
    expect(sorted(os.listdir(scene.folder)), ["in", "secret"], "what is outside")


@SUITE.case("writing", "a quota bounds bytes and files")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene, **{"max-bytes": 20, "max-files": 3})) as fsx:
        r, w = await fsx.files.root("r"), fsx.writing
        await w.write(r, "a", b"0123456789")
        for name, made in {
            "append": w.append(r, "a", b"x" * 11),
            "write": w.write(r, "a", b"x" * 21),
            "write-range": w.write_range(r, "a", 20, b"x"),
            "write-atomic": w.write_atomic(r, "a", b"x" * 11, False),
            "truncate": w.truncate(r, "a", 21),
        }.items():
            expect(await code(made, name), "quota", f"the error of {name}")
        await w.write(r, "b", b"0123456789")
        await w.create_directory(r, "d")
        expect(await code(w.create_directory(r, "e"), "a fourth one"), "quota", "its error")
        expect(await code(w.link(r, "a", r, "e"), "a fourth name"), "quota", "its error")
        await w.remove_file(r, "b")
        await w.append(r, "a", b"x" * 10)
        expect(len(await r.read("a")), 20, "as many bytes as it may have")


@SUITE.case("digests", "SHA-256 of files of any size")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene)) as fsx:
        r = await fsx.files.root("r")
        for size in (0, 1, 300_000, 5_000_000):
            data = (bytes(range(251)) * (size // 251 + 1))[:size]
            await fsx.writing.write(r, "f", data)
            got = bytes(await fsx.digests.digest(r, "f", "sha256"))
            expect(got.hex(), hashlib.sha256(data).hexdigest(), f"the digest of {size} bytes")
        expect(await code(fsx.digests.digest(r, ".", "sha256"), "a directory"), "is-directory", "its error")


@SUITE.case("digests", "BLAKE3 of files of any size")
async def _(scene: Scene) -> None:
    # of the official test vectors: bytes 0 to 250 over and over
    known = {
        0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
    }
    async with scene.client(_rw(scene)) as fsx:
        r = await fsx.files.root("r")
        for size, digest in known.items():
            await fsx.writing.write(r, "f", (bytes(range(251)) * (size // 251 + 1))[:size])
            got = bytes(await fsx.digests.digest(r, "f", "blake3"))
            expect(got.hex(), digest, f"the digest of {size} bytes")


@SUITE.case("temporary", "a directory is empty, its owner's alone, and gone with its handle")
async def _(scene: Scene) -> None:
    grant = {"temp": {"path": str(scene.folder), "max-dirs": 2, "max-bytes": 10}}
    async with scene.client(grant) as fsx:
        one, two = await fsx.temporary.temp_dir(), await fsx.temporary.temp_dir()
        expect(await code(fsx.temporary.temp_dir(), "a third one"), "quota", "its error")
        await fsx.writing.write(one, "f", b"1234567890")
        await fsx.writing.symlink(one, "f", "l")
        expect(bytes(await one.read("l")), b"1234567890", "what was written there")
        expect(list(await two.list(".")), [], "what is in the other")
        expect(await code(fsx.writing.write(two, "g", b"1"), "one byte more"), "quota", "its error")
        expect(await code(one.read("../2/f"), "the way out"), "not-permitted", "its error")
        one.close()
        two.close()
    async with scene.client() as fsx:
        expect(await code(fsx.temporary.temp_dir(), "without a grant"), "not-permitted", "its error")


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@SUITE.case("streaming", "a stream is written where it is told to")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene)) as fsx:
        r, write = await fsx.files.root("r"), fsx.streaming.write_stream
        await fsx.writing.write(r, "f", b"0123456789")
        expect(await write(r, "f", "replace", _chunks(b"ab", b"c")), 3, "bytes written")
        expect(await write(r, "f", "append", _chunks(b"d")), 1, "bytes added")
        expect(await write(r, "f", ("at", 2), _chunks(b"X", b"YZ")), 3, "bytes in its midst")
        expect(bytes(await r.read("f")), b"abXYZ", "what is in the file")
        big = bytes(range(256)) * 1000
        for durable in (False, True):
            expect(
                await write(r, "f", ("atomic", durable), _chunks(*[big] * 5)),
                1_280_000,
                "bytes of a replaced file",
            )
            expect((await r.stat("f")).size, 1_280_000, "its size")
        expect(
            await code(write(r, ".", "replace", _chunks(b"x")), "a directory"), "is-directory", "its error"
        )
        expect([e.name for e in await r.list(".")], ["f"], "nothing beside it")


@SUITE.case("streaming", "a stream stops at the quota")
async def _(scene: Scene) -> None:
    async with scene.client(_rw(scene, **{"max-bytes": 100_000})) as fsx:
        r, write = await fsx.files.root("r"), fsx.streaming.write_stream
        chunks = [b"x" * 10_000] * 30
        for placement in ("replace", ("atomic", False)):
            error = await fails(write(r, "f", placement, _chunks(*chunks)), Err, "too long a stream")
            expect(getattr(error, "value", None) and error.value.case, "quota", "its error")  # type: ignore[attr-defined]
        expect(sum(e.size for e in await r.list(".")) <= 100_000, True, "no more than the quota")
