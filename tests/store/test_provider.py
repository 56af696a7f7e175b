"""Providers that are artifacts: fetched from a registry, unpacked in the store, checked, and run in a process."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_kit import Host
from loop_kit.errors import Damaged
from loop_kit.lock import read
from loop_kit.manifest import load
from loop_kit.oci.layout import Layout
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import push
from loop_kit.pack import pack
from loop_kit.store import Store
from loop_kit.workspace import Workspace
from tests.checkout import ROOT
from tests.pack.workspaces import PYTHON, WIT, loop_toml, written
from tests.registries import crane, docker
from tests.store.packed import Place, component, hello
from tests.store.test_offline import off

PACKED = loop_toml("""
use = "sidecar:python:text:Filter"
pack = { version = "1.2.0", grants = { "acme:text" = { most = 3 } } }
""")
USED = loop_toml('use = "REFERENCE"\nstart-timeout = "60s"')
ECHO = PYTHON.replace("from acme_pair import twice\n", "").replace("twice(text)", "text + text")


def packed(folder: Path, layout: Layout, tag: str, **more: str) -> None:
    """Packs the provider `text` into a layout."""
    text = PACKED
    for old, new in more.items():
        text = text.replace(*{"version": ("1.2.0", new), "most": ("most = 3", new)}[old])
    made = written(folder, {"loop.toml": text, "text.py": ECHO, "wit/text.wit": WIT, "requirements.txt": ""})
    layout.add(tag, asyncio.run(pack(made, "text", layout.blobs)))


@pytest.fixture
def place(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, captured=capfd, patched=monkeypatch)
    packed(tmp_path / "source", made.layout, "1.2")
    (made.folder / "app.wasm").write_bytes((tmp_path / "source" / "app.wasm").read_bytes())
    made.write(USED.replace("REFERENCE", "oci-layout:../dist:1.2"))
    return made


async def echoed(folder: Path, text: str = "abc") -> str:
    async with Host() as host, Workspace(host, load(folder)) as workspace:
        said = str(await (await workspace.load("app")).call("echo", text))
        (text_,) = (member for member in workspace.members() if member.name == "text")
        assert (text_.placement, text_.digest) == (
            "sidecar",
            read(folder / "loop.lock").providers["text"].digest,
        )
        return said


def test_a_provider_runs_out_of_the_store(place: Place) -> None:
    place.loop("pull")
    entry = read(place.lock).providers["text"]
    assert (entry.kind, entry.version, entry.code) == ("provider", "1.2.0", None)
    assert (entry.exports, dict(entry.grants)) == (("acme:text/filter",), {"acme:text": {"most": 3}})
    assert asyncio.run(echoed(place.folder)) == "abcabc"
    assert list(Store().trees) == [entry.digest]
    assert [root["unpacked"] for root in place.json("store", "ls")["roots"]] == [True]
    assert asyncio.run(echoed(place.folder, "again")) == "againagain"
    assert Store().verify() == []  # nothing was put beside the code
    assert place.json("store", "gc")["trees"] == []


@pytest.mark.parametrize("what", ["code", "one more", "listing"])
def test_what_was_unpacked_and_tampered_with_does_not_run_until_it_is_pulled_anew(
    place: Place, what: str
) -> None:
    place.loop("pull")
    asyncio.run(echoed(place.folder))
    entry = read(place.lock).providers["text"]
    tree = Store().trees.path(entry.digest)
    for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    (code,) = tree.rglob("text.py")
    match what:
        case "code":
            code.chmod(0o644)
            code.write_text(code.read_text().replace("text + text", "'mine now'"))
        case "one more":
            (code.parent / "sitecustomize.py").write_text("print('mine now')")
        case "listing":
            (tree / "listing").write_bytes(b"")
    with pytest.raises(Damaged, match=rf"providers.text, oci-layout:../dist:1.2: .*{entry.digest}.* changed"):
        asyncio.run(echoed(place.folder))
    found = place.json("store", "verify", code=4)["damaged"]
    assert [(one["kind"], one["name"]) for one in found] == [("tree", entry.digest)]
    place.loop("pull")
    assert asyncio.run(echoed(place.folder)) == "abcabc"


def test_an_update_shows_the_grants_that_are_wanted(place: Place, tmp_path: Path) -> None:
    place.loop("pull")
    packed(tmp_path / "newer", place.layout, "1.2", version="1.2.1", most='most = 9, roots = ["/"]')
    done = place.loop("update", code=1)
    assert "  version   1.2.0 → 1.2.1" in done.stdout
    assert "  + wants acme:text: most = 9\n" in done.stdout
    assert '  + wants acme:text: roots = ["/"]\n' in done.stdout
    assert place.loop("update", "--yes").stdout.endswith("updated loop.lock\n")
    assert asyncio.run(echoed(place.folder)) == "abcabc"


CALL = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.store.test_provider import echoed
print(asyncio.run(echoed(Path(sys.argv[1]))))
"""


def test_with_the_network_off_a_provider_runs_and_can_be_tested(place: Place) -> None:
    place.loop("pull")
    place.layout.folder.rename(place.folder / "gone")
    command = [*off(), sys.executable, "-c", CALL, str(place.folder)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "abcabc\n", done.stderr


@pytest.fixture(params=[docker, crane])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with request.param(tmp_path / "registry") as host:
        yield host


def test_from_a_registry_and_then_without_it(place: Place, registry: str) -> None:
    component(place.layout, "1.0", hello(), version="1.0.0")

    async def pushed() -> None:
        async with Registry(registry) as there:
            for tag, name in (("1.2", "text"), ("1.0", "hello")):
                reference = Reference.parse(f"{registry}/acme/{name}:{tag}")
                await push(place.layout.blobs, place.layout.resolve(tag), there, reference)

    asyncio.run(pushed())
    place.write(
        USED.replace("REFERENCE", f"oci:{registry}/acme/text:1.2")
        + f'[components.hello]\npath = "oci:{registry}/acme/hello:1.0"\nrun = "run"\nwasi.stdio = true\n'
    )
    said = place.json("pull")
    assert sorted(said["artifacts"]) == ["components.hello", "providers.text"]
    assert said["artifacts"]["providers.text"]["digest"] == place.layout.resolve("1.2").digest
    assert place.loop("run", "--locked", "--offline", ".", before=off()).stdout == "hello from a guest\n"
    assert asyncio.run(echoed(place.folder)) == "abcabc"
    assert place.loop("update").stdout == "up to date (2 artifacts)\n"
    assert place.json("pull", f"oci:{registry}/acme/text:1.2")["artifacts"][0]["fetched"] == 0
    place.write((place.folder / "loop.toml").read_text().replace("hello:1.0", "hello:7.0"))
    assert f"{registry}/acme/hello:7.0" in place.loop("update", code=4).stderr


def test_a_registry_that_is_gone_is_told_and_changes_nothing(place: Place, tmp_path: Path) -> None:
    with docker(tmp_path / "registry") as host:
        pass
    place.write(USED.replace("REFERENCE", f"oci:{host}/acme/text:1.2"))
    done = place.loop("pull", code=4)
    assert host in done.stderr
    assert not place.lock.exists()
