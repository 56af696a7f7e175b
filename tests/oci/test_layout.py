"""Layouts on disk: written whole, read strictly, and every fault of one named."""

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci.layout import REF_NAME, Fault, Layout, check, name_of
from loop_kit.oci.model import Descriptor, Index, Manifest, Platform
from tests.oci.artifacts import put, put_blob, put_component, put_signature


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout").create()


def test_a_layout_is_made_once_and_lists_what_is_added(layout: Layout) -> None:
    first, _ = put_component(layout.blobs)
    second, _ = put_component(layout.blobs, b"other")
    assert layout.create().index() == Index()
    assert json.loads((layout.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    layout.add("1.0", first)
    layout.add("latest", first)
    layout.add("1.0", second)  # the name is taken from the first
    layout.add(None, first)  # which is there already
    assert [(name_of(each), each.digest) for each in layout.index().manifests] == [
        ("latest", first.digest),
        ("1.0", second.digest),
    ]
    assert layout.resolve("1.0").digest == layout.resolve(second.digest).digest == second.digest
    assert check(layout.folder) == []
    assert sorted(path.name for path in layout.folder.iterdir() if path.is_file()) == [
        ".lock",
        "index.json",
        "oci-layout",
    ]


def test_names_that_cannot_be_told_apart(layout: Layout, tmp_path: Path) -> None:
    first, _ = put_component(layout.blobs)
    with pytest.raises(PackageError, match="does not list anything; it has no tags"):
        layout.resolve()
    layout.add("a", first)
    layout.add("b", first)
    assert layout.resolve() == layout.resolve("a")
    layout.add("c", put_component(layout.blobs, b"other")[0])
    with pytest.raises(PackageError, match="lists 2 artifacts") as told:
        layout.resolve()
    assert told.value.hint == "name one of them: a, b, c"
    with pytest.raises(PackageError, match="does not list d; it has a, b, c"):
        layout.resolve("d")
    with pytest.raises(PackageError, match="'-' is not a tag"):
        layout.add("-", first)
    with pytest.raises(PackageError, match="no OCI layout: it has no oci-layout"):
        Layout(tmp_path).index()
    with pytest.raises(PackageError, match="there is no folder"):
        Layout(tmp_path / "nowhere").index()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(PackageError, match=r"is not empty, and no OCI layout: it has .notes.txt. in it"):
        Layout(tmp_path / "full").create()


def _add(folder: Path, names: list[str]) -> None:
    layout = Layout(folder).create()
    for name in names:
        layout.add(name, put_component(layout.blobs, name.encode())[0])


def test_processes_that_add_do_not_lose_each_others_names(tmp_path: Path) -> None:
    names = [[f"{process}-{number}" for number in range(10)] for process in range(4)]
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_add, args=(tmp_path / "layout", each)) for each in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    found = {name_of(each) for each in Layout(tmp_path / "layout").index().manifests}
    assert found == {name for each in names for name in each}
    assert check(tmp_path / "layout") == []


def test_signatures_are_found_by_their_subject(layout: Layout) -> None:
    component, _ = put_component(layout.blobs)
    signature, _ = put_signature(layout.blobs, component)
    layout.add("1.0", component)
    layout.add(None, signature)
    (found,) = layout.referrers(component.digest)
    assert (found.digest, found.artifact_type) == (signature.digest, "application/x.signature+json")
    assert layout.referrers(signature.digest) == []
    assert check(layout.folder) == []


def test_what_is_about_something_goes_with_its_last_name(layout: Layout) -> None:
    old, _ = put_component(layout.blobs)
    new, _ = put_component(layout.blobs, b"new")
    signature, _ = put_signature(layout.blobs, old)
    about, _ = put_signature(layout.blobs, signature, b"of the signature")
    other, _ = put_signature(layout.blobs, new)
    named, _ = put_signature(layout.blobs, old, b"named")

    def listed() -> set[str]:
        return {each.digest for each in layout.index().manifests}

    for tag, each in (
        ("1.0", old),
        ("same", old),
        (None, signature),
        (None, about),
        (None, other),
        ("signed", named),
    ):
        layout.add(tag, each)
    layout.add("1.0", new)
    assert listed() == {one.digest for one in (old, signature, about, new, other, named)}
    layout.add("1.0", new)
    layout.add("same", new)
    assert listed() == {one.digest for one in (new, other, named)}
    # an index that has it keeps it, and so what is about it
    index = put(layout.blobs, Index((dataclasses.replace(old, platform=Platform("wasip2", "wasm")),)))
    for tag, each in (("1.0", old), (None, signature), ("all", index), ("1.0", new)):
        layout.add(tag, each)
    assert listed() == {one.digest for one in (new, other, named, index, signature)}


# ---- faults


def blob(layout: Layout, digest: str) -> Path:
    path = layout.blobs.path(digest)
    path.chmod(0o644)
    return path


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


TAMPERING = [(remove, "missing"), (truncate, "wrong-size"), (flip, "wrong-bytes"), (pipe, "malformed")]


@pytest.fixture
def tree(layout: Layout) -> dict[str, str]:
    """An index of two platforms and a component beside it; digests by part."""
    _, manifest = put_component(layout.blobs)
    manifests = []
    for arch in ("amd64", "arm64"):
        of_arch = Manifest(manifest.config, manifest.layers, annotations={"for": arch})
        manifests.append(put(layout.blobs, of_arch, platform=Platform(arch, "linux")))
    index = put(layout.blobs, Index(tuple(manifests)))
    layout.add("1.0", index)
    assert check(layout.folder) == []
    return {
        "index": index.digest,
        "manifest": manifests[1].digest,
        "config": manifest.config.digest,
        "layer": manifest.layers[0].digest,
    }


@pytest.mark.parametrize("part", ["index", "manifest", "config", "layer"])
@pytest.mark.parametrize(("tamper", "kind"), TAMPERING)
def test_whatever_is_done_to_any_part_is_named(
    layout: Layout, tree: dict[str, str], part: str, tamper: Callable[[Path], None], kind: str
) -> None:
    tamper(blob(layout, tree[part]))
    (fault,) = check(layout.folder)
    assert (fault.kind, fault.part, fault.digest) == (kind, part, tree[part])
    assert fault.where.startswith("index.json $.manifests[0]")
    assert str(fault).startswith(f"{fault.where}: {part} {tree[part]}: ")


def test_every_byte_counts(layout: Layout) -> None:
    descriptor, manifest = put_component(layout.blobs)
    layout.add("1.0", descriptor)
    for digest in (descriptor.digest, manifest.config.digest, manifest.layers[0].digest):
        path = blob(layout, digest)
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes((whole[at] ^ 0x20,)) + whole[at + 1 :])
            assert [(fault.kind, fault.digest) for fault in check(layout.folder)] == [("wrong-bytes", digest)]
        path.write_bytes(whole)
    assert check(layout.folder) == []


def test_all_faults_are_told_at_once(layout: Layout, tree: dict[str, str]) -> None:
    remove(blob(layout, tree["config"]))
    flip(blob(layout, tree["layer"]))
    assert {(fault.kind, fault.part) for fault in check(layout.folder)} == {
        ("missing", "config"),
        ("wrong-bytes", "layer"),
    }


def kinds(faults: list[Fault]) -> list[tuple[str, str]]:
    return [(fault.kind, fault.part) for fault in faults]


def test_documents_that_are_whole_and_still_wrong(layout: Layout) -> None:
    _, manifest = put_component(layout.blobs)
    other = put_blob(layout.blobs, b"another layer", media_types.WASM)

    def judged(document: bytes, media_type: str = media_types.MANIFEST, **said: Any) -> list[tuple[str, str]]:
        descriptor = dataclasses.replace(put_blob(layout.blobs, document, media_type), **said)
        (layout.folder / "index.json").write_bytes(Index((descriptor,)).to_bytes())
        return kinds(check(layout.folder))

    good = manifest.to_bytes()
    assert judged(good) == []
    assert judged(good, media_types.INDEX) == [("wrong-media-type", "index")]
    assert judged(Index().to_bytes()) == [("wrong-media-type", "manifest")]
    assert judged(b"{}") == [("malformed", "manifest")]
    assert judged(b'{"schemaVersion":2,' + good[1:]) == [("malformed", "manifest")]
    assert judged(good, size=len(good) + 1) == [("wrong-size", "manifest")]
    assert judged(good, digest="md5:abc") == [("unsupported", "manifest")]
    assert judged(good + b" " * (4 << 20)) == [("malformed", "manifest")]
    assert judged(b"anything", "text/plain") == []
    assert judged(Manifest(manifest.config, (other,)).to_bytes()) == [("malformed", "config")]
    sized = Descriptor(media_types.WASM, other.digest, other.size - 1)
    assert judged(Manifest(put_blob(layout.blobs, b"{}", "application/x"), (sized,)).to_bytes()) == [
        ("wrong-size", "layer")
    ]
    config = put_blob(layout.blobs, b'{"os":"wasip2"}', media_types.WASM_CONFIG)
    assert judged(Manifest(config, (other,)).to_bytes()) == [("malformed", "config")]


def test_a_config_is_held_to_each_manifest_that_has_it(layout: Layout) -> None:
    first, manifest = put_component(layout.blobs)
    other = Manifest(manifest.config, (put_blob(layout.blobs, b"other", media_types.WASM),))
    layout.add("a", first)
    layout.add("b", put(layout.blobs, other))
    assert kinds(check(layout.folder)) == [("malformed", "config")]


def test_indexes_within_each_other_end(layout: Layout) -> None:
    descriptor = put_component(layout.blobs)[0]
    for _ in range(7):
        descriptor = put(layout.blobs, Index((descriptor, descriptor)))
    layout.add("deep", descriptor)
    assert check(layout.folder) == []  # each is read once
    layout.add("deeper", put(layout.blobs, Index((descriptor,))))
    assert kinds(check(layout.folder)) == []  # it was read where it is less deep
    (layout.folder / "index.json").write_bytes(Index((put(layout.blobs, Index((descriptor,))),)).to_bytes())
    assert kinds(check(layout.folder)) == [("unsupported", "manifest")]


def test_the_files_of_the_layout_itself(layout: Layout) -> None:
    descriptor, _ = put_component(layout.blobs)
    other, _ = put_component(layout.blobs, b"other")
    two = [
        Descriptor(each.media_type, each.digest, each.size, {REF_NAME: "x"}) for each in (descriptor, other)
    ]
    for name, content, found in (
        ("index.json", Index(tuple(two)).to_bytes(), ("ambiguous", "index")),
        ("index.json", b"[]", ("malformed", "index")),
        ("index.json", b'{"schemaVersion":2,"manifests":[],"manifests":[]}', ("malformed", "index")),
        ("index.json", b"x" * (5 << 20), ("malformed", "index")),
        ("index.json", put_component(layout.blobs)[1].to_bytes(), ("wrong-media-type", "index")),
        ("index.json", None, ("missing", "index")),
        ("oci-layout", b'{"imageLayoutVersion":"9"}', ("malformed", "layout")),
        ("oci-layout", None, ("missing", "layout")),
    ):
        path = layout.folder / name
        whole = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        assert kinds(check(layout.folder)) == [found]
        path.write_bytes(whole)
    assert check(layout.folder) == []
    (layout.folder / "index.json").unlink()
    os.mkfifo(layout.folder / "index.json")
    assert kinds(check(layout.folder)) == [("malformed", "index")]
    with pytest.raises(PackageError, match="is no file"):
        layout.index()
    with pytest.raises(PackageError, match="there is no folder"):
        check(layout.folder / "nowhere")


def test_a_check_tells_how_far_it_is(layout: Layout) -> None:
    layout.add("1.0", put_component(layout.blobs)[0])
    told: list[int] = []
    check(layout.folder, told.append)
    assert sorted(told) == sorted(layout.blobs.size(digest) or 0 for digest in layout.blobs)
