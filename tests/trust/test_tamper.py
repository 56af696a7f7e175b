"""Whatever is tampered with, and however: it is refused by a message that names the part, and nothing is loaded.

A workspace has a component from a registry, signed and pinned. Either its bytes are changed where they lie in the store,
or somebody who can write everywhere but has no key that is trusted makes all digests fit again, `loop.lock` too.
"""

import asyncio
import base64
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loop_kit import Host
from loop_kit.errors import Damaged, LoopError, ManifestError, PackageError, Untrusted
from loop_kit.lock import Entry, Lock, lock_of
from loop_kit.lock import read as read_lock
from loop_kit.manifest import load
from loop_kit.oci.blobs import Blobs, digest_of
from loop_kit.oci.media_types import WASM, WASM_CONFIG
from loop_kit.oci.model import Descriptor, Index, Manifest, describe, parse
from loop_kit.oci.platform import this_platform
from loop_kit.oci.registry import Registry
from loop_kit.oci.wasm import WasmConfig
from loop_kit.store import Store
from loop_kit.store.workspace import pull, update
from loop_kit.trust import PrivateKey, attach, sign
from loop_kit.trust.bundle import MEDIA_TYPE
from loop_kit.workspace import Workspace
from tests.registries import docker
from tests.running import command
from tests.trust import matrix
from tests.trust.made import ACME, OTHER

PARTS = ("layer", "config", "manifest", "index", "signature", "manifest of the signature")
SAID = {
    "layer": "a layer",
    "config": "the config",
    "manifest": "the manifest",
    "index": "the manifest or index",
    "signature": "a signature",
    "manifest of the signature": "the manifest of a signature",
}
CREATED = "2026-01-01T00:00:00Z"
AT_REST = ("flip", "truncate", "extend", "swap", "remove", "replay")


@dataclass
class Release:
    """All that one release is made of, by part: what it is, and its bytes."""

    name: str
    version: str
    root: Descriptor
    data: dict[str, bytes] = field(default_factory=dict)
    of: dict[str, Descriptor] = field(default_factory=dict)


def release(
    host: str, name: str, version: str, key: PrivateKey, *, change: str = "", serial: int | None = None
) -> Release:
    """Makes a release; `change` has one of its parts be another, and all that names it."""
    code = command().replace(b"hello from a guest", f"{name:>12}{version:>6}".encode())
    made = Release(f"{host}/acme/{name}", version, Descriptor(WASM, digest_of(b""), 0))

    def put(part: str, data: bytes, media_type: str, **more: Any) -> Descriptor:
        made.data[part] = data
        made.of[part] = Descriptor(media_type, digest_of(data), len(data), **more)
        return made.of[part]

    layer = put("layer", code.replace(b"1.", b"6.") if change == "layer" else code, WASM)
    imports = ("evil:x/y",) if change == "config" else ()
    said = WasmConfig(CREATED, (layer.digest,), exports=("wasi:cli/run@0.2.0",), imports=imports)
    config = put("config", said.to_bytes(), WASM_CONFIG)
    words = {"org.opencontainers.image.version": version} | ({"x": "y"} if change == "manifest" else {})
    document = Manifest(config, (layer,), annotations=words)
    manifest = put("manifest", document.to_bytes(), document.media_type, platform=this_platform())
    index = Index((manifest,), annotations={"x": "y"} if change == "index" else {})
    made.root = put("index", index.to_bytes(), index.media_type)
    bundle = sign(key, made.root, made.name, version, serial=serial)
    sealed(made, bundle.data)
    return made


def sealed(made: Release, bundle: bytes) -> None:
    """Gives a release a bundle for its signature, whatever is in it."""
    layer = Descriptor(MEDIA_TYPE, digest_of(bundle), len(bundle))
    document = Manifest(
        Descriptor("application/vnd.oci.empty.v1+json", digest_of(b"{}"), 2),
        (layer,),
        made.root,
        {},
        MEDIA_TYPE,
    )
    made.data |= {"signature": bundle, "manifest of the signature": document.to_bytes()}
    made.of |= {"signature": layer, "manifest of the signature": describe(document, document.to_bytes())}


async def push(host: str, made: Release, *tags: str) -> None:
    repository = made.name.removeprefix(f"{host}/")
    blobs = Blobs(Path(os.environ["XDG_DATA_HOME"]) / "to-push")
    async with Registry(host) as registry:
        for part in ("layer", "config", "signature"):
            blobs.add(made.data[part])
            await registry.push_blob(repository, made.of[part], blobs)
        empty = Descriptor("application/vnd.oci.empty.v1+json", blobs.add(b"{}"), 2)
        await registry.push_blob(repository, empty, blobs)
        await registry.push_manifest(repository, made.data["manifest"])
        for tag in tags:
            await registry.push_manifest(repository, made.data["index"], tag=tag)
        await registry.push_manifest(repository, made.data["manifest of the signature"])


MANIFEST = """\
[components.hello]
path = "oci:HOST/acme/hello:1.1.0"

[trust.signers]
acme = "KEY"

[[trust.rules]]
artifacts = ["HOST/acme/*"]
signers = ["acme"]
"""


@dataclass
class World:
    """A workspace that has pulled what it names, and releases that are signed rightly besides."""

    folder: Path
    host: str
    new: Release
    old: Release
    tool: Release

    @property
    def manifest(self) -> Path:
        return self.folder / "ws" / "loop.toml"

    @property
    def lock(self) -> Path:
        return lock_of(self.manifest)

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.folder / "data" / "loop-kit" / "store")

    def file(self, part: str) -> Path:
        return self.blobs.path(self.new.of[part].digest)

    def rest(self, path: Path, data: bytes) -> None:
        """Writes to a file of the store, which is read-only."""
        path.chmod(0o644)
        path.write_bytes(data)

    def locked(self, change: Callable[[Entry], Entry]) -> None:
        lock = read_lock(self.lock)
        self.lock.write_text(Lock({"hello": change(lock.components["hello"])}, {}, lock.others).to_text())

    def put(self, made: Release, **more: Any) -> None:
        """Has the store hold a release, and `loop.lock` say that it is the one: all digests fit."""
        for data in made.data.values():
            self.blobs.add(data)
        self.locked(
            lambda entry: dataclasses.replace(
                entry,
                digest=made.root.digest,
                code=made.of["layer"].digest,
                signatures=(made.of["manifest of the signature"].digest,),
                **more,
            )
        )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world that each case has a copy of."""
    folder = tmp_path_factory.mktemp("first")
    with docker(folder / "registry") as host, pytest.MonkeyPatch.context() as patch:
        surrounded(patch, folder)
        old = release(host, "hello", "1.0.0", ACME, serial=10)
        new = release(host, "hello", "1.1.0", ACME, serial=11)
        tool = release(host, "tool", "1.1.0", ACME, serial=12)
        world = World(folder, host, new, old, tool)
        world.manifest.parent.mkdir()
        world.manifest.write_text(MANIFEST.replace("HOST", host).replace("KEY", ACME.public.line))

        async def fetched() -> None:
            await push(host, old, "1.0.0")
            await push(host, new, "1.1.0", "latest")
            await push(host, tool, "1.1.0")
            await pull(load(world.manifest))

        asyncio.run(fetched())
        yield world


def surrounded(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("XDG_DATA_HOME", os.fspath(folder / "data"))
    patch.setenv("XDG_STATE_HOME", os.fspath(folder / "state"))


@pytest.fixture
def world(first: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("data", "state", "ws"):
        shutil.copytree(first.folder / name, tmp_path / name)
    surrounded(monkeypatch, tmp_path)
    return dataclasses.replace(first, folder=tmp_path)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of all code that was given to the engine."""
    found: list[int] = []
    real = Host.load

    async def counted(self: Host, source: Any, *args: Any, **named: Any) -> Any:
        found.append(len(source))
        return await real(self, source, *args, **named)

    monkeypatch.setattr(Host, "load", counted)
    return found


async def loaded(world: World) -> None:
    async with Host() as host, Workspace(host, load(world.manifest)) as workspace:
        await workspace.load("hello")


async def refused(world: World, loads: list[int]) -> LoopError:
    with pytest.raises(LoopError) as told:
        await loaded(world)
    assert loads == []
    return told.value


async def test_what_nobody_has_touched_is_loaded(world: World, loads: list[int]) -> None:
    entry = read_lock(world.lock).components["hello"]
    assert (entry.digest, entry.serial, entry.version) == (world.new.root.digest, 11, "1.1.0")
    assert entry.signed_by == f"acme ({ACME.public.id[:16]})"
    await loaded(world)
    assert loads == [len(world.new.data["layer"])]


@pytest.mark.parametrize("kind", AT_REST)
@pytest.mark.parametrize("part", PARTS)
async def test_bytes_that_were_changed_in_the_store(
    part: str, kind: str, world: World, loads: list[int]
) -> None:
    file, data = world.file(part), world.new.data[part]
    changed = {
        "flip": data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
        "truncate": data[:-1],
        "extend": data + b"\n",
        "swap": world.tool.data[part],
        "replay": world.old.data[part],
    }
    if kind == "remove":
        file.unlink()
    else:
        world.rest(file, changed[kind])
    error = await refused(world, loads)
    digest = world.new.of[part].digest
    # of a root whose bytes are others nobody can say which of the two it was
    assert SAID[part] in str(error)
    assert isinstance(error, PackageError)
    assert digest in str(error)
    assert "components.hello" in str(error)
    matrix.check(f"the {part}, in the store", kind, error)
    if kind != "remove":
        assert isinstance(error, Damaged)
        assert digest_of(changed[kind]) in str(error)
        assert [one.name for one in Store().verify()] == [digest]


@pytest.mark.parametrize("part", PARTS)
async def test_a_part_that_is_another_with_all_digests_made_to_fit(
    part: str, world: World, loads: list[int]
) -> None:
    """Signed anew, as somebody must who has no key of those that are trusted."""
    world.put(release(world.host, "hello", "1.1.0", OTHER, change=part))
    error = await refused(world, loads)
    assert isinstance(error, Untrusted)
    assert error.reason == "unknown-key"
    matrix.check("any of these, all digests made to fit", "sign again", error)
    assert OTHER.public.id[:16] in str(error)


def rebundled(world: World, change: Callable[[dict[str, Any]], object]) -> Release:
    """The release, with its own signature changed and all digests made to fit."""
    made = dataclasses.replace(world.new, data={**world.new.data}, of={**world.new.of})
    found = json.loads(made.data["signature"])
    change(found)
    sealed(made, json.dumps(found).encode())
    return made


def resealed(world: World, bundle: bytes) -> Release:
    made = dataclasses.replace(world.new, data={**world.new.data}, of={**world.new.of})
    sealed(made, bundle)
    return made


def with_payload(text: bytes, by: bytes) -> Callable[[dict[str, Any]], object]:
    def change(bundle: dict[str, Any]) -> None:
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
        assert text in payload
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(text, by)).decode()

    return change


SIGNATURES: dict[str, tuple[Callable[[World], Release], str]] = {
    "flip": (lambda w: rebundled(w, with_payload(b'"1.1.0"', b'"1.1.1"')), "bad-signature"),
    "flip the type": (
        lambda w: rebundled(w, lambda b: b["dsseEnvelope"].update(payloadType="text/plain")),
        "bad-signature",
    ),
    "truncate": (lambda w: resealed(w, w.new.data["signature"][:-1]), "malformed"),
    "extend": (lambda w: resealed(w, w.new.data["signature"] + b"{}"), "malformed"),
    "swap": (lambda w: resealed(w, w.tool.data["signature"]), "wrong-subject"),
    "remove": (
        lambda w: rebundled(w, lambda b: b["dsseEnvelope"].update(signatures=[])),
        "no-signature",
    ),
    "replay": (lambda w: resealed(w, w.old.data["signature"]), "wrong-subject"),
    "sign again": (
        lambda w: resealed(w, sign(OTHER, w.new.root, w.new.name, "1.1.0").data),
        "unknown-key",
    ),
}


@pytest.mark.parametrize("kind", SIGNATURES)
async def test_a_signature_that_was_changed_with_all_digests_made_to_fit(
    kind: str, world: World, loads: list[int]
) -> None:
    make, reason = SIGNATURES[kind]
    world.put(make(world))
    error = await refused(world, loads)
    assert isinstance(error, Untrusted)
    assert error.reason == reason
    matrix.check("the signature, all digests made to fit", kind, error)
    assert world.new.root.digest in str(error)


def relocked(world: World, **more: Any) -> None:
    world.locked(lambda entry: dataclasses.replace(entry, **more))


def replayed(world: World, **more: Any) -> None:
    world.put(world.old, version="1.0.0", **more)


LOCKS: dict[str, tuple[Callable[[World], object], type[LoopError], str]] = {
    "flip": (
        lambda w: relocked(w, digest=w.new.root.digest[:-1] + ("0" if w.new.root.digest[-1] != "0" else "1")),
        PackageError,
        "is not in",
    ),
    "flip the code": (
        lambda w: relocked(w, code=w.tool.of["layer"].digest),
        PackageError,
        "as the code of",
    ),
    "truncate": (lambda w: w.lock.write_bytes(w.lock.read_bytes()[:-40]), ManifestError, "loop.lock"),
    "extend": (lambda w: w.lock.write_bytes(w.lock.read_bytes() + b"x"), ManifestError, "loop.lock"),
    "swap": (lambda w: w.put(w.tool), Untrusted, "it was signed as"),
    "remove": (lambda w: w.lock.unlink(), PackageError, "loop.lock does not say what it is"),
    "remove the signatures": (lambda w: relocked(w, signatures=()), Untrusted, "has no signature"),
    "replay": (replayed, Untrusted, "was signed as version 1.0.0, and came as 1.1.0"),
    "sign again": (
        lambda w: w.put(release(w.host, "hello", "1.1.0", OTHER)),
        Untrusted,
        "a key that the policy does not name",
    ),
}


@pytest.mark.parametrize("kind", LOCKS)
async def test_a_lock_that_was_changed(kind: str, world: World, loads: list[int]) -> None:
    change, error, text = LOCKS[kind]
    change(world)
    told = await refused(world, loads)
    assert isinstance(told, error)
    assert text in str(told)
    matrix.check("the lock", kind, told)


async def test_a_lock_that_names_an_older_release_than_it_has_the_serial_of(
    world: World, loads: list[int]
) -> None:
    text = world.manifest.read_text().replace("hello:1.1.0", "hello:latest")
    world.manifest.write_text(text)
    replayed(world, reference=f"oci:{world.host}/acme/hello:latest")
    error = await refused(world, loads)
    assert isinstance(error, Untrusted)
    assert error.reason == "rollback"
    assert "a newer one, 11, was seen" in str(error)


@pytest.mark.parametrize("kind", [*AT_REST, "add"])
def test_what_was_unpacked_is_compared_with_what_it_was_unpacked_from(kind: str, world: World) -> None:
    """The trees that providers run from; `Artifacts.provider` unpacks and checks by the same."""
    store = Store()

    def saying(word: str) -> Callable[[Path], None]:
        def fill(place: Path) -> None:
            place.mkdir()
            (place / "main.py").write_text(f"print('{word}')\n")
            (place / "other.py").write_text("print('other')\n")

        return fill

    with store.use() as use:
        tree = store.trees.make(use, world.new.root.digest, saying("new"))
        former = store.trees.make(use, world.old.root.digest, saying("old"))
        # rights are compared, too: they are as before once it is done
        rights = {path: path.stat().st_mode for path in (tree.files, *tree.files.iterdir())}
        for path in rights:
            path.chmod(0o755)
        file = tree.files / "main.py"
        match kind:
            case "flip":
                file.write_text("print('nex')\n")
            case "truncate":
                file.write_text("print('new')")
            case "extend":
                file.write_text("print('new')\n#\n")
            case "swap":
                (tree.files / "other.py").rename(file)
            case "remove":
                file.unlink()
            case "replay":
                shutil.copyfile(former.files / "main.py", file)
            case "add":
                (tree.files / "more.py").write_text("")
        for path, mode in rights.items():
            if path.exists():
                path.chmod(mode)
        with pytest.raises(Damaged) as told:
            store.trees.make(use, world.new.root.digest, saying("new"))
        matrix.check("what was unpacked", kind, told.value)
        assert world.new.root.digest in str(told.value)
        assert "more.py" in str(told.value) if kind == "add" else "main.py" in str(told.value)


async def test_what_is_not_signed_is_not_even_fetched(world: World, loads: list[int]) -> None:
    """A registry that offers something else: nothing of its code comes, and `loop.lock` stays as it was."""
    before = world.lock.read_bytes()
    world.manifest.write_text(world.manifest.read_text().replace("hello:1.1.0", "hello:latest"))
    bad = release(world.host, "hello", "1.2.0", OTHER)
    await push(world.host, bad, "latest")
    with pytest.raises(Untrusted) as told:
        await update(load(world.manifest))
    assert told.value.reason == "unknown-key"
    assert world.lock.read_bytes() == before
    world.lock.unlink()
    with pytest.raises(Untrusted) as told:
        await pull(load(world.manifest))
    assert told.value.reason == "unknown-key"
    assert not world.lock.exists()
    assert world.blobs.size(bad.of["layer"].digest) is None
    await refused(world, loads)


async def test_a_tag_does_not_go_back(world: World, loads: list[int]) -> None:
    world.manifest.write_text(world.manifest.read_text().replace("hello:1.1.0", "hello:moves"))
    world.lock.unlink()
    await push(world.host, world.new, "moves")
    await pull(load(world.manifest))
    await loaded(world)
    loads.clear()
    await push(world.host, world.old, "moves")
    with pytest.raises(Untrusted) as told:
        await update(load(world.manifest))
    assert told.value.reason == "rollback"
    world.lock.unlink()  # what was seen is not kept in the lock alone
    with pytest.raises(Untrusted) as told:
        await pull(load(world.manifest))
    assert told.value.reason == "rollback"
    await refused(world, loads)


async def test_a_policy_that_changes_counts_at_once(world: World, loads: list[int]) -> None:
    text = world.manifest.read_text()
    revoked = f'[trust]\nrevoked = ["{ACME.public.id}"]\n\n{text}'
    for changed, reason in (
        (revoked, "revoked"),
        (text.replace(ACME.public.line, OTHER.public.line), "unknown-key"),
        (text.replace("acme/*", "acme/tool"), "no-rule"),
        (text + "threshold = 2\n", ""),
    ):
        world.manifest.write_text(changed)
        error = await refused(world, loads)
        assert getattr(error, "reason", "") == reason
    world.manifest.write_text(text)
    await loaded(world)


async def test_a_signature_that_is_renewed_is_taken_up_by_a_pull(world: World) -> None:
    renewed = sign(ACME, world.new.root, world.new.name, "1.1.0", serial=11, expires=86_400)
    blobs = Blobs(world.folder / "more")
    added = attach(blobs, world.new.root, renewed)
    async with Registry(world.host) as registry:
        document = parse(blobs.read(added.digest))
        assert isinstance(document, Manifest)
        for part in document.parts:
            await registry.push_blob("acme/hello", part, blobs)
        await registry.push_manifest("acme/hello", blobs.read(added.digest))
    await pull(load(world.manifest))
    assert added.digest in read_lock(world.lock).components["hello"].signatures
    await loaded(world)


async def test_local_code_may_be_kept_out(world: World, loads: list[int]) -> None:
    (world.manifest.parent / "mine.wasm").write_bytes(world.new.data["layer"])
    world.manifest.write_text('[components.hello]\npath = "mine.wasm"\n\n[trust]\n')
    await loaded(world)
    loads.clear()
    world.manifest.write_text('[components.hello]\npath = "mine.wasm"\n\n[trust]\nlocal = "refuse"\n')
    error = await refused(world, loads)
    assert isinstance(error, Untrusted)
    assert error.reason == "local"
    assert "components.hello comes from no registry" in str(error)


async def test_local_code_is_kept_out_however_it_comes(
    world: World, loads: list[int], tmp_path: Path
) -> None:
    """Exchanged for what is loaded, or by a manifest that is gone over to: nothing of it is loaded either."""
    mine = world.manifest.parent / "mine.wasm"
    mine.write_bytes(world.old.data["layer"])
    world.manifest.write_text(f'[trust]\nlocal = "refuse"\n{world.manifest.read_text()}')
    async with Host() as host, Workspace(host, load(world.manifest)) as workspace:
        await workspace.load("hello")
        with pytest.raises(Untrusted) as told:
            await workspace.replace("hello", path=mine)
        assert told.value.reason == "local"
    loads.clear()
    world.manifest.write_text('[components.hello]\npath = "mine.wasm"\n')
    async with Host() as host, Workspace(host, load(world.manifest)) as workspace:
        await workspace.load("hello")
        loads.clear()
        (world.manifest.parent / "other.wasm").write_bytes(world.new.data["layer"])
        world.manifest.write_text('[components.hello]\npath = "other.wasm"\n\n[trust]\nlocal = "refuse"\n')
        with pytest.raises(Untrusted) as told:
            await workspace.apply(load(world.manifest))
        assert told.value.reason == "local"
    assert loads == []
