"""`loop pull`, `loop update`, and running what they have fetched: with the lock, without the network, untampered."""

import dataclasses
import os
import shutil
import urllib.request
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from loop_kit import Host
from loop_kit.errors import Damaged, PackageError
from loop_kit.lock import read
from loop_kit.manifest import load
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Index, Platform, describe
from loop_kit.oci.platform import this_platform
from loop_kit.store import Store
from loop_kit.store.workspace import pull, update
from loop_kit.workspace import Workspace
from tests.checkout import ROOT
from tests.cli import LOOP, serving
from tests.guests import Guest
from tests.store.packed import HELLO, Place, component, hello
from tests.wit_types import U32


@pytest.fixture
def place(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, captured=capfd, patched=monkeypatch)
    component(made.layout, "1.0", hello(), version="1.0.0")
    return made


def test_a_workspace_runs_what_it_pulled(place: Place) -> None:
    said = place.loop("pull").stdout
    assert said.startswith("components.hello 1.0.0  sha256:")
    assert "loop.lock has changed" in said
    entry = read(place.lock).components["hello"]
    root = place.layout.resolve("1.0")
    assert (entry.reference, entry.version, entry.digest) == ("oci-layout:../dist:1.0", "1.0.0", root.digest)
    assert place.loop("run", "--locked", "--offline", ".").stdout == "hello from a guest\n"
    again = place.json("pull")
    assert (again["fetched"], again["changed"]) == (0, False)
    assert again["artifacts"]["components.hello"]["digest"] == root.digest


def test_it_runs_where_nothing_was_pulled_before_and_is_locked_then(place: Place) -> None:
    assert place.loop("run", ".").stdout == "hello from a guest\n"
    assert read(place.lock).components["hello"].digest == place.layout.resolve("1.0").digest
    shutil.rmtree(place.layout.folder)
    assert place.loop("run", ".").stdout == "hello from a guest\n"


def test_a_tag_that_moved_changes_nothing_until_an_update(place: Place) -> None:
    place.loop("pull")
    component(place.layout, "1.0", hello(b"hello from another"), version="1.0.1")
    place.loop("pull")
    assert place.loop("run", ".").stdout == "hello from a guest\n"
    said = place.loop("update").stdout
    assert "version   1.0.0 → 1.0.1" in said
    assert said.endswith("updated loop.lock\n")
    assert place.loop("run", "--locked", "--offline", ".").stdout == "hello from another\n"
    assert place.loop("update").stdout == "up to date (1 artifacts)\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("run", "--locked", "."), "loop.lock is not that of loop.toml: it does not have components.hello"),
        (
            ("run", "--offline", "."),
            "without the network it cannot be run: it does not have components.hello",
        ),
        (("pull", "--locked"), "it does not have components.hello, oci-layout:../dist:1.0"),
        (("pull", "--offline"), "it does not have components.hello"),
        (("up", "--locked"), "it does not have components.hello"),
        (("up", "--offline", "--detach"), "it does not have components.hello"),
        (("dev", "--offline", "--no-page"), "it does not have components.hello"),
    ],
)
def test_what_is_not_locked_is_refused_where_it_must_be(
    place: Place, args: tuple[str, ...], said: str
) -> None:
    done = place.loop(*args, code=4)
    assert said in done.stderr
    assert "hint: run `loop" in done.stderr
    assert not place.lock.exists()
    assert not place.store.exists() or list(Blobs(place.store)) == []


def test_a_lock_of_another_reference_is_told_and_resolved_by_an_update(place: Place) -> None:
    place.loop("pull")
    component(place.layout, "2.0", hello(b"hello from a newer"), version="2.0.0")
    place.write(HELLO.replace(":1.0", ":2.0"))
    done = place.loop("run", "--locked", "--offline", ".", code=4)
    assert (
        "it has components.hello as oci-layout:../dist:1.0, and the manifest asks for oci-layout:../dist:2.0"
        in (done.stderr)
    )
    assert "hint: run `loop update`" in done.stderr
    assert "hint: run `loop update`" in place.loop("run", ".", code=4).stderr
    assert "hint: run `loop update`" in place.loop("pull", code=4).stderr
    assert "version   1.0.0 → 2.0.0" in place.loop("update").stdout
    assert place.loop("run", ".").stdout == "hello from a newer\n"


def test_what_the_manifest_does_not_name_any_more_goes_from_the_lock_and_what_others_keep_stays(
    place: Place,
) -> None:
    place.loop("pull")
    place.lock.write_text(place.lock.read_text() + '\n[tools.ripgrep]\nversion = "14.1.0"\n')
    place.write('[components.mine]\npath = "mine.wasm"\nrun = "run"\nwasi.stdio = true')
    (place.folder / "mine.wasm").write_bytes(hello(b"hello from my own!"))
    done = place.loop("run", "--locked", ".", code=4)
    assert "components.hello is in it, and is no artifact of the manifest" in done.stderr
    assert place.loop("run", ".").stdout == "hello from my own!\n"
    said = place.loop("update").stdout
    assert "components.hello  is no artifact of the manifest any more" in said
    assert place.lock.read_text().endswith('version = 1\n\n[tools.ripgrep]\nversion = "14.1.0"\n')
    assert place.json("store", "gc")["roots"] == [f"{place.lock} components.hello"]


def tampered(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    path.unlink()
    match how:
        case "changed":
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "cut":
            path.write_bytes(data[:-1])
        case "another":
            path.write_bytes(hello(b"hello from a thief"))


@pytest.mark.parametrize("part", ["manifest", "config", "code"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone", "another"])
async def test_a_store_that_was_tampered_with_is_refused_by_name_and_mended_by_a_pull(
    place: Place, part: str, how: str
) -> None:
    manifest = (await pull(load(place.folder))).manifest
    entry = read(place.lock).components["hello"]
    blobs = Blobs(place.store)
    document = blobs.read(entry.digest)
    config = next(digest for digest in blobs if digest.encode() in document and digest != entry.code)
    digest = {"manifest": entry.digest, "config": config, "code": entry.code or ""}[part]
    tampered(blobs.path(digest), how)
    async with Host() as host, Workspace(host, manifest) as workspace:
        with pytest.raises(
            PackageError, match=f"components.hello, oci-layout:../dist:1.0: .*{digest}"
        ) as caught:
            await workspace.load("hello")
        assert isinstance(caught.value, Damaged) == (how != "gone")
        assert workspace.loaded("hello") is None
        await pull(manifest)
        assert await workspace.load("hello") is workspace.loaded("hello")
    assert Store().verify() == []


def test_code_that_was_tampered_with_does_not_run(place: Place) -> None:
    place.loop("pull")
    code = read(place.lock).components["hello"].code or ""
    tampered(Blobs(place.store).path(code), "another")
    for args in (("run", "."), ("run", "--locked", "--offline", "."), ("up",), ("explain",)):
        done = place.loop(*args, code=4)
        assert "hello from" not in done.stdout
        assert code in done.stderr + done.stdout
    found = place.json("store", "verify", code=4)["damaged"]
    assert [(one["kind"], one["name"]) for one in found] == [("blob", code)]


def test_a_lock_that_was_tampered_with_is_refused(place: Place) -> None:
    place.loop("pull")
    other = hello(b"hello from a thief")
    thief = Blobs(place.store).add(other)
    text = place.lock.read_text()
    code = read(place.lock).components["hello"].code
    assert code is not None
    place.lock.write_text(text.replace(f'code = "{code}"', f'code = "{thief}"'))
    done = place.loop("run", ".", code=4)
    assert (
        f"loop.lock has {thief} as the code of oci-layout:../dist:1.0, which it does not have" in done.stderr
    )
    assert done.stdout == ""
    place.lock.write_text(text.replace("digest =", "digset ="))
    done = place.loop("run", ".", code=3)
    assert 'loop.lock:7:1: components.hello: unknown key "digset" (did you mean "digest"?)' in done.stderr
    place.lock.write_text(text)
    assert place.loop("run", ".").stdout == "hello from a guest\n"


async def test_what_an_update_brings_takes_its_place_while_calls_go_on(place: Place) -> None:
    first, second = (Guest().exports("which", [], U32, f"(i32.const {n})").wasm() for n in (1, 2))
    component(place.layout, "3.0", first, version="3.0.0")
    place.write(HELLO.replace(":1.0", ":3.0"))
    manifest = (await pull(load(place.folder))).manifest
    async with Host() as host, Workspace(host, manifest) as workspace:
        assert await (await workspace.load("hello")).call("which") == 1
        component(place.layout, "3.0", second, version="3.0.1")
        (change,) = await update(manifest)
        assert (change.before and change.before.version, change.after.version) == ("3.0.0", "3.0.1")
        after = (await pull(manifest, changes=[change])).manifest
        assert await (await workspace.load("hello")).call("which") == 1
        (told,) = await workspace.apply(after)
        assert told.member == "hello"
        assert told.before.startswith("oci-layout:../dist:3.0 3.0.0 (sha256:")
        assert told.after.startswith("oci-layout:../dist:3.0 3.0.1 (sha256:")
        app = workspace.loaded("hello")
        assert app is not None
        assert await app.call("which") == 2
        # one that was tampered with does not take its place
        component(place.layout, "3.0", first, version="3.0.2")
        last = (await pull(after, changes=await update(after))).manifest
        tampered(Blobs(place.store).path(read(place.lock).components["hello"].code or ""), "changed")
        with pytest.raises(Damaged, match=r"components\.hello"):
            await workspace.apply(last)
        assert await app.call("which") == 2


async def test_of_an_index_this_machines_part_is_fetched_and_all_are_pinned(place: Place) -> None:
    parts = []
    for number, platform in enumerate(
        (this_platform(), Platform("s390x", "linux"), Platform("riscv64", "linux"))
    ):
        made = component(place.layout, f"part-{number}", hello(b"hello from part %d." % number))
        parts.append(dataclasses.replace(made, annotations={}, platform=platform))
    index = Index(tuple(parts), annotations={"org.opencontainers.image.version": "4.0.0"})
    data = index.to_bytes()
    place.layout.blobs.add(data)
    place.layout.add("4.0", describe(index, data))
    place.write(HELLO.replace(":1.0", ":4.0"))
    manifest = (await pull(load(place.folder))).manifest
    entry = read(place.lock).components["hello"]
    assert (entry.version, dict(entry.platforms)) == (
        "4.0.0",
        {str(each.platform): each.digest for each in parts},
    )
    there = set(Blobs(place.store))
    assert {entry.digest, parts[0].digest, entry.code} <= there
    assert not {parts[1].digest, parts[2].digest} & there
    async with Host() as host, Workspace(host, manifest) as workspace:
        await workspace.load("hello")
    only = Index(tuple(parts[1:]))
    place.layout.blobs.add(only.to_bytes())
    place.layout.add("4.0", describe(only, only.to_bytes()))
    with pytest.raises(PackageError, match=f"nothing for {this_platform()}"):
        await update(manifest)


def test_an_artifact_serves_as_a_provider_and_takes_no_keys_of_a_process(place: Place) -> None:
    place.write(
        '[components.mine]\npath = "mine.wasm"\nrun = "run"\n[providers.kv]\nuse = "oci-layout:../dist:1.0"\n'
    )
    place.loop("pull")
    assert read(place.lock).providers["kv"].kind == "component"
    place.write((place.folder / "loop.toml").read_text() + 'transport = "unix"\n')
    done = place.loop("explain", code=3)
    assert 'loop.toml:6:1: providers.kv: "transport" is of a provider in a process of its own' in done.stderr


def test_an_update_says_what_is_wanted_that_was_not_and_asks(place: Place) -> None:
    component(place.layout, "1.0", hello(), version="1.0.0", imports=["loop:core/log@0.1.0"])
    place.loop("pull")
    imports = ["loop:core/log@0.1.0", "loop:fsx/files@0.1.0"]
    component(place.layout, "1.0", hello(b"hello from another"), version="1.1.0", imports=imports)
    before = place.lock.read_text()
    done = place.loop("update", code=1)
    assert "  + needs loop:fsx/files@0.1.0\n" in done.stdout
    assert "components.hello would need more than before" in done.stderr
    assert "--yes takes it; nothing was written" in done.stderr
    assert place.lock.read_text() == before
    said = place.json("update", "--dry-run")
    assert said["changes"][0]["wider"] == ["needs loop:fsx/files@0.1.0"]
    assert (said["written"], place.lock.read_text()) == (False, before)
    assert place.loop("update", "--yes", "hello").stdout.endswith("updated loop.lock\n")
    component(place.layout, "1.0", hello(), version="1.2.0")
    said = place.json("update")
    assert said["changes"][0]["narrower"] == ["needs loop:core/log@0.1.0", "needs loop:fsx/files@0.1.0"]
    assert said["written"]


def test_an_update_of_one_leaves_the_others_as_they_are(place: Place) -> None:
    component(place.layout, "2.0", hello(b"hello from a newer"), version="2.0.0")
    place.write(HELLO + '[components.other]\npath = "oci-layout:../dist:2.0"\n')
    place.loop("pull")
    before = read(place.lock).components
    for tag, version in (("1.0", "1.0.1"), ("2.0", "2.0.1")):
        component(place.layout, tag, hello(b"hello from another"), version=version)
    place.write(
        (place.folder / "loop.toml").read_text().replace("dist:2.0", f"dist:2.0@{before['other'].digest}")
    )
    place.loop("update", "hello")
    after = read(place.lock).components
    assert (after["hello"].version, after["other"]) == ("1.0.1", before["other"])
    assert "it has components.other as oci-layout:../dist:2.0," in place.loop("run", ".", code=4).stderr
    place.loop("update")
    assert read(place.lock).components["other"].digest == before["other"].digest
    assert place.loop("run", "--locked", "--offline", ".").stdout == "hello from another\n"


def test_a_root_of_another_that_is_damaged_keeps_nothing_from_running(place: Place) -> None:
    place.loop("pull")
    (root,) = (place.store / "roots").iterdir()
    root.write_text("{}")
    (place.store / "roots" / f"{'0' * 40}.json").write_text("{}")
    assert place.loop("run", ".").stdout == "hello from a guest\n"
    assert [one["name"] for one in place.json("store", "verify", code=4)["damaged"]] == [f"{'0' * 40}.json"]


def test_an_older_version_than_the_one_that_is_locked_is_refused(place: Place) -> None:
    component(place.layout, "1.0", hello(b"hello from a newer"), version="1.0.7")
    place.loop("pull")
    component(place.layout, "1.0", hello(), version="1.0.0")
    before = place.lock.read_text()
    done = place.loop("update", code=4)
    assert "oci-layout:../dist:1.0 is 1.0.0" in done.stderr
    assert "which is older than 1.0.7" in done.stderr
    assert "hint: --allow-downgrade takes it nevertheless" in done.stderr
    assert place.lock.read_text() == before
    place.loop("update", "--allow-downgrade")
    assert place.loop("run", "--locked", "--offline", ".").stdout == "hello from a guest\n"


def test_one_artifact_by_itself_stays_until_it_is_given_up(place: Place) -> None:
    reference = f"oci-layout:{place.layout.folder}:1.0"
    said = place.json("pull", reference)
    assert said["artifacts"][0]["reference"] == reference
    assert said["artifacts"][0]["fetched"] > 0
    assert [root["name"] for root in place.json("store", "ls")["roots"]] == [reference]
    assert place.json("store", "gc")["blobs"] == []
    assert len(place.json("store", "gc", "--forget", reference)["blobs"]) == 3
    assert not place.lock.exists()
    done = place.loop("run", "--offline", reference, code=4)
    assert f"{reference} is not in the store" in done.stderr
    done = place.loop("pull", "site", code=4)
    assert "'site' names no artifact" in done.stderr
    assert "write oci:REGISTRY/REPOSITORY:TAG" in done.stderr


def test_an_artifact_runs_without_a_workspace(place: Place) -> None:
    reference = f"oci-layout:{place.layout.folder}:1.0"
    pinned = f"{reference}@{place.layout.resolve('1.0').digest}"
    assert place.loop("run", reference).stdout == "hello from a guest\n"
    done = place.loop("run", "--locked", reference, code=4)
    assert f"{reference} is a tag, which may come to stand for something else" in done.stderr
    place.layout.folder.rename(place.folder / "gone")
    assert place.loop("run", "--offline", reference).stdout == "hello from a guest\n"
    assert place.loop("run", "--locked", "--offline", pinned).stdout == "hello from a guest\n"
    blobs = Blobs(place.store)
    (code,) = (digest for digest in blobs if blobs.read(digest).startswith(b"\0asm"))
    tampered(blobs.path(code), "another")
    done = place.loop("run", "--offline", reference, code=4)
    assert (done.stdout, code in done.stderr) == ("", True)
    done = place.loop("run", "--offline", "loop.toml", code=4)
    assert "without the network it cannot be run" in done.stderr
    (place.folder / "mine.wasm").write_bytes(hello())
    done = place.loop("run", "--offline", "mine.wasm", code=2)
    assert "--locked and --offline are of artifacts" in done.stderr


def test_an_artifact_is_served_alone_and_by_a_workspace_in_the_background(place: Place) -> None:
    component(place.layout, "web", bytes(wat2wasm((ROOT / "bench" / "guests" / "hello.wat").read_text())))
    reference = f"oci-layout:{place.layout.folder}:web"
    with serving([LOOP, "serve", reference, "--addr", "127.0.0.1:0"], place.folder) as (url, _):
        assert urllib.request.urlopen(url, timeout=20).status == 200
    place.write(f'[components.web]\npath = "{reference}"\nrun = "serve"\nserve.addr = "127.0.0.1:0"\n')
    place.loop("pull")
    place.layout.folder.rename(place.folder / "gone")
    served = place.json("up", "--detach", "--locked", "--offline")["served"]["web"]
    try:
        assert urllib.request.urlopen(served, timeout=20).status == 200
        (member,) = place.json("ps")["workspaces"][0]["members"]
        assert (member["source"], member["digest"]) == (reference, read(place.lock).components["web"].code)
        assert place.json("store", "gc")["blobs"] == []
    finally:
        place.loop("down")


def test_what_is_not_there_is_told(place: Place) -> None:
    place.write(HELLO.replace(":1.0", ":7.0"))
    done = place.loop("pull", code=4)
    assert "does not list 7.0; it has 1.0" in done.stderr
    assert place.loop("update", "nobody", code=4).stderr.startswith(
        "error: loop.toml: 'nobody' is no artifact"
    )
    shutil.rmtree(place.layout.folder)
    assert "there is no folder" in place.loop("pull", code=4).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_disk_that_is_full_says_so_and_changes_nothing(place: Place) -> None:
    component(place.layout, "1.0", hello() + bytes(200_000), version="1.0.0")
    data = place.env["XDG_DATA_HOME"]
    Path(data).mkdir()
    small = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=100k none {data} && exec "$@"', "sh")
    done = place.loop("pull", before=small, code=4)
    assert f"error: the store in {place.store} cannot be used: No space left on device\n" in done.stderr
    assert "loop store gc" in done.stderr
    assert not place.lock.exists()


def test_a_workspace_that_was_copied_keeps_what_it_needs(place: Place, tmp_path: Path) -> None:
    place.loop("pull")
    copy = tmp_path / "copy"
    shutil.copytree(place.folder, copy)
    shutil.rmtree(place.folder)
    place.folder = copy
    assert place.loop("run", "--locked", "--offline", ".").stdout == "hello from a guest\n"
    assert place.json("store", "gc")["blobs"] == []
    assert place.loop("run", "--locked", "--offline", ".").stdout == "hello from a guest\n"


def test_explain_says_what_an_artifact_is(place: Place) -> None:
    done = place.loop("explain", code=4)
    assert "cannot be read: not fetched yet: loop pull" in done.stdout
    place.loop("pull")
    entry = read(place.lock).components["hello"]
    said = place.loop("explain", code=None).stdout
    assert f"hello  oci-layout:../dist:1.0\n  is 1.0.0, {entry.digest}, signed by nobody" in said
    assert place.json("explain", code=None)["components"][0]["artifact"]["entry"]["digest"] == entry.digest
