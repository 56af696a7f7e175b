"""Resolvers, servers and archives that mean no good: each ends in an error of its own, and nothing of it is kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit import Limits, manifest, new
from loop_kit.errors import Damaged, PackageError
from loop_kit.pkg import Asked, _fetch, _resolver, _solve
from loop_kit.workspace import Workspace as Built
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server, endless, script, serving, sha256, tar, zipped

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The component, built as any resolver in JavaScript is."""
    import asyncio

    folder = tmp_path_factory.mktemp("hostile") / "bad"
    new.create("resolver", "js", folder)
    shutil.copy(HERE / "hostile.js", folder / "src/resolver.js")

    async def build() -> None:
        async with loop.Host() as host, Built(host, manifest.load(folder)) as workspace:
            await workspace.load("bad")

    asyncio.run(build())
    return folder / "build/bad.wasm"


@pytest.fixture
def other() -> Iterator[Server]:
    """A server that nobody may ask."""
    with serving() as made:
        made.put("/secret", "x")
        yield made


TOOL = tar({"tool": script("tool")}, executable=True)


class Bad:
    """A workspace with the resolver, which is told how to misbehave."""

    def __init__(self, workspace: Workspace, server: Server, other: Server, component: Path) -> None:
        self.workspace, self.server, self.other, self.component = workspace, server, other, component
        server.put("/tool.tar.gz", TOOL)

    async def install(self, mode: str) -> dict[str, tuple[str, ...]]:
        config = {
            "mode": mode,
            "base": self.server.url,
            "digest": sha256(TOOL),
            "elsewhere": f"{self.other.url}/secret",
        }
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in config.items())
        source = f'[resolvers.bad]\nuse = "component:{self.component}"\nallow = ["{self.server.url}"]\n'
        self.workspace.wants('tool = "bad:tool"', more=f"{source}[resolvers.bad.config]\n{lines}\n")
        return await self.workspace.install()

    def kept(self) -> list[str]:
        """What of it is outside of the store, or half in it."""
        top = self.workspace.folder.parent
        data = top / "data/loop-kit/packages"
        strange = [path.name for path in top.iterdir() if path.name not in ("data", "site")]
        return (
            strange
            + [path.name for path in (data / "tmp").glob("*")]
            + [path.name for path in (data / "on").glob("**/tool")]
        )


@pytest.fixture
def bad(
    workspace: Workspace, server: Server, other: Server, component: Path, monkeypatch: pytest.MonkeyPatch
) -> Bad:
    limits = Limits(memory="64MiB", deadline=2.0, cpu=2.0, payload="4MiB", instances="shared")
    monkeypatch.setattr(_resolver, "_LIMITS", limits)
    monkeypatch.setattr(_solve, "_MOST", 10)
    return Bad(workspace, server, other, component)


@pytest.mark.timeout(300)
async def test_one_that_means_well(bad: Bad) -> None:
    assert list(await bad.install("well")) == ["tool"]


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("endless", "the resolver of bad failed: .*2"),
        ("memory", "the resolver of bad failed"),
        ("nonsense", "the resolver of bad failed"),
        ("throws", "the resolver of bad failed"),
        ("words", "^bad: x{2000}$"),
        ("elsewhere", "not there: "),
        ("file", "is no name of a file"),
        ("digest", "is not a digest"),
        ("size", "bytes; .* are the most"),
        ("download", "HTTP-request-denied|destination"),
        ("needs", "more than 10 packages"),
        ("archive", "is damaged, or no archive"),
        ("into", "leads out of the folder"),
        ("only", "leads out of the folder"),
        ("many", "a resolver lists 60000 programs|too much data"),
        ("bin", "leads out of the folder|is not there"),
        ("name", "is no name of a file"),
        ("go", "leads out of the folder"),
        ("python", "is no function of Python"),
        ("none", "has no program"),
        ("apart", "leads out of the folder"),
        ("apart lies", "and its source says|is not|sha256:0000"),
    ],
)
@pytest.mark.timeout(300)
async def test_one_that_does_not(mode: str, said: str, bad: Bad) -> None:
    with pytest.raises(PackageError, match=said) as caught:
        await bad.install(mode)
    assert len(str(caught.value)) < 3000
    assert bad.other.asked == []
    assert bad.kept() == []


async def test_one_that_lies(bad: Bad) -> None:
    with pytest.raises(Damaged):
        await bad.install("lies")
    assert list(bad.workspace.packages().store.blobs) == []
    assert bad.kept() == []


async def test_one_that_would_read_other_files(bad: Bad) -> None:
    await bad.install("well")
    async with bad.workspace.packages() as packages:
        assert await packages.asked_here(Asked("tool", "bad", "tool")) is None


async def test_a_file_without_end(
    server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fetch, "MOST", 8 << 20)
    server.npm("tool", "1.0.0")
    (path,) = [path for path in server.files if path.endswith(".tgz")]
    server.files[path] = endless
    workspace.wants('tool = "npm:tool"')
    with pytest.raises(PackageError, match="has more than 8388608 bytes"):
        await workspace.install()
    assert list(workspace.packages().store.blobs) == []


async def test_an_answer_without_end(
    server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_resolver, "_MAX_ANSWER", 1 << 20)
    server.files["/npm/tool"] = endless
    workspace.wants('tool = "npm:tool"')
    with pytest.raises(PackageError, match="HttpResponseBodySize"):
        await workspace.install()


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", zipped({"a": "b"}), tar({"../../out": "x"}, folder="package/"), tar({"/out": "x"})],
    ids=["empty", "words", "zip", "up", "absolute"],
)
async def test_an_archive_that_is_none_or_leads_out(
    data: bytes, server: Server, workspace: Workspace
) -> None:
    server.npm("tool", "1.0.0")
    document = json.loads(server.files["/npm/tool"])  # type: ignore[arg-type]
    (path,) = [path for path in server.files if path.endswith(".tgz")]
    server.put(path, data)
    document["versions"]["1.0.0"]["dist"] = {"tarball": server.url + path}
    server.put("/npm/tool", json.dumps(document))
    workspace.wants('tool = "npm:tool"')
    with pytest.raises(PackageError):
        await workspace.install()
    store = workspace.packages().store.folder
    assert not list((store / "trees").glob("*"))
    assert not list((store / "tmp").glob("*"))


async def test_what_comes_is_not_what_is_locked(server: Server, workspace: Workspace) -> None:
    """Whoever can change the server cannot change what others have locked."""
    server.npm("tool", "1.0.0")
    workspace.wants('tool = "npm:tool"')
    await workspace.install()
    shutil.rmtree(workspace.folder.parent / "data")
    server.npm("tool", "1.0.0", files={"run.js": "console.log('evil')"})
    with pytest.raises(Damaged) as caught:
        await workspace.install(locked=True)
    assert "do not use it" in (caught.value.hint or "")
    assert list(workspace.packages().store.blobs) == []


@pytest.mark.parametrize(
    ("old", "new_"),
    [
        ("sha512:", "sha512:../"),
        ('at = "node_modules/tool"', 'at = "../../node_modules/tool"'),
        ('"run.js"', '"../../../../../bin/sh"'),
        ('"node"]', '"bash"]'),
        ('layout = "nested"', 'layout = "round"'),
        ("strip = 1", "strip = -1"),
        ('root = "node_modules/tool"', 'root = "x"'),
    ],
)
async def test_a_lock_that_was_tampered_with(
    old: str, new_: str, server: Server, workspace: Workspace
) -> None:
    server.npm("tool", "1.0.0")
    workspace.wants('tool = "npm:tool"')
    await workspace.install()
    lock = workspace.folder / "loop.lock"
    text = lock.read_text()
    assert old in text
    lock.write_text(text.replace(old, new_))
    with pytest.raises(PackageError) as caught:
        await workspace.install(offline=True)
    assert "tool" in str(caught.value)


def test_a_platform_is_what_it_says() -> None:
    from loop_kit.pkg import Platform

    assert dataclasses.asdict(Platform.here()).keys() == {"os", "arch", "libc", "python"}
