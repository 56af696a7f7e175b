"""Whole artifacts from any place to any other."""

import asyncio
import dataclasses
import itertools
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci import media_types
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.layout import Layout, check, name_of
from loop_kit.oci.model import Descriptor, Index, Manifest, Platform
from loop_kit.oci.platform import choose, parse_platform, this_platform
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import Folder, Place, Repository, copy, pull, push, together
from tests.oci.artifacts import put, put_blob, put_component, put_signature

ARM, AMD = Platform("arm64", "linux"), Platform("amd64", "linux")


def put_index(blobs: Blobs) -> tuple[Descriptor, list[Descriptor]]:
    """An index of two platforms, which share a blob."""
    shared = put_blob(blobs, b"shared")
    parts = []
    for platform in (AMD, ARM):
        own = put_blob(blobs, f"for {platform}".encode() * 1000)
        manifest = Manifest(put_blob(blobs, b'{"config":true}', "application/x.config+json"), (own, shared))
        parts.append(put(blobs, manifest, platform=platform))
    return put(blobs, Index(tuple(parts))), parts


def layout(folder: Path) -> Folder:
    made = Layout(folder).create()
    return Folder(made.blobs, made)


async def test_an_artifact_goes_round(docker_registry: str, crane_registry: str, tmp_path: Path) -> None:
    """Layout, docker-registry, go-containerregistry's, layout: with its signature, and the signature's own."""
    first = layout(tmp_path / "first")
    root, _ = put_index(first.blobs)
    signature, _ = put_signature(first.blobs, root)
    second, _ = put_signature(first.blobs, signature, b"signed again")
    listed = Layout(tmp_path / "first")
    for descriptor, name in ((root, "1.0"), (signature, None), (second, None)):
        listed.add(name, descriptor)
    async with Registry(docker_registry) as one, Registry(crane_registry) as other:
        last = layout(tmp_path / "last")
        places: list[Place] = [first, Repository(one, "goes/round"), Repository(other, "goes/around"), last]
        for source, target in itertools.pairwise(places):
            told: dict[str, int] = {}

            def tell(blob: Descriptor, count: int, told: dict[str, int] = told) -> None:
                told[blob.digest] = told.get(blob.digest, 0) + count

            copied = await copy(source, root, target, "1.0", tell=tell, referrers=True)
            assert copied.descriptor == root
            assert {each.digest for each in copied.referrers} == {signature.digest, second.digest}
            assert copied.new
            # 5 blobs of the index, the empty config, and what each signature has
            assert len(told) == copied.blobs == 7
            assert told == {digest: first.blobs.size(digest) for digest in told}
            again = await copy(source, root, target, "1.0", referrers=True)
            assert (again.new, again.descriptor, again.size) == (False, root, 0)
    assert check(tmp_path / "last") == []
    assert Layout(tmp_path / "last").resolve("1.0").digest == root.digest
    assert sorted(last.blobs) == sorted(first.blobs)
    assert [name_of(each) for each in Layout(tmp_path / "last").index().manifests] == [None, None, "1.0"]


async def test_pull_and_push(crane_registry: str, tmp_path: Path) -> None:
    here, there = Blobs(tmp_path / "here"), Blobs(tmp_path / "there")
    root, parts = put_index(here)
    reference = Reference(crane_registry, "pull/push", "1.0")
    async with Registry(crane_registry) as registry:
        assert await push(here, root, registry, reference) == root
        assert (await pull(registry, reference, there)).digest == root.digest
        assert sorted(there) == sorted(here)
        part = Blobs(tmp_path / "part")
        found = await pull(registry, reference, part, platform=ARM)
        assert found == parts[1]
        assert part.size(root.digest)  # what says that it is the part
        assert part.size(parts[0].digest) is None
        assert len(list(part)) == 5
        with pytest.raises(PackageError, match="has nothing for linux/s390x") as told:
            await pull(registry, reference, part, platform=Platform("s390x", "linux"))
        assert told.value.hint == "it has linux/amd64, linux/arm64"
        with pytest.raises(PackageError, match="cannot be had by pushing"):
            await push(here, root, registry, reference.at(digest=parts[0].digest))


async def test_between_repositories_of_one_registry_no_bytes_go(
    docker_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Blobs(tmp_path)
    root, _ = put_index(here)
    async with Registry(docker_registry) as registry:
        await push(here, root, registry, Reference(docker_registry, "near/one", "1.0"))

        async def none(*_: Any) -> None:
            raise AssertionError("it was fetched")

        monkeypatch.setattr(registry, "pull_blob", none)
        target = Repository(registry, "near/other")
        assert (await copy(Repository(registry, "near/one"), root, target, "2.0")).new
        assert (await registry.resolve(Reference(docker_registry, "near/other", "2.0"))).digest == root.digest
        assert not (await copy(Repository(registry, "near/one"), root, target, "3.0")).new  # but for the name
        assert await registry.tags("near/other") == ["2.0", "3.0"]


async def test_a_name_comes_last(docker_registry: str, tmp_path: Path) -> None:
    here = Blobs(tmp_path / "here")
    root, parts = put_index(here)
    lost = next(digest for digest in here if b"for linux/arm64" in here.read(digest))
    here.remove(lost)
    for target_layout in (True, False):
        async with Registry(docker_registry) as registry:
            target = layout(tmp_path / "layout") if target_layout else Repository(registry, "last")
            with pytest.raises(PackageError, match=f"{lost}.* is not in {here.folder}"):
                await copy(Folder(here), root, target, "1.0")
            if target_layout:
                assert Layout(tmp_path / "layout").index() == Index()
            else:
                assert await registry.tags("last") == []
    part = await copy(Folder(here), root, layout(tmp_path / "layout"), "amd", platform=AMD)
    assert part.descriptor == parts[0]
    assert check(tmp_path / "layout") == []


async def test_what_was_damaged_does_not_go_on(docker_registry: str, tmp_path: Path) -> None:
    here = Blobs(tmp_path / "here")
    root, manifest = put_component(here)
    file = here.path(manifest.layers[0].digest)
    file.chmod(0o644)
    file.write_bytes(b"cod3")
    there = layout(tmp_path / "there")
    with pytest.raises(Damaged, match=manifest.layers[0].digest):
        await copy(Folder(here), root, there, "1.0")
    async with Registry(docker_registry) as registry:
        with pytest.raises(Damaged, match=f"{file} is not {manifest.layers[0].digest}"):
            await push(here, root, registry, Reference(docker_registry, "damaged", "1.0"))
        assert await registry.tags("damaged") == []
    here.path(root.digest).chmod(0o644)
    here.path(root.digest).write_bytes(b"{}")
    with pytest.raises(Damaged, match=root.digest):
        await copy(Folder(here), root, there, "1.0")


async def test_an_artifact_has_its_bounds(tmp_path: Path) -> None:
    here, there = Blobs(tmp_path / "here"), Folder(Blobs(tmp_path / "there"))
    root, manifest = put_component(here)
    with pytest.raises(PackageError, match="has more than 100 bytes"):
        await copy(Folder(here), root, there, most=100)
    vast = Manifest(manifest.config, (dataclasses.replace(manifest.layers[0], size=1 << 62),))
    with pytest.raises(PackageError, match="has more than"):
        await copy(Folder(here), put(here, vast), there)
    for number in range(8):
        root = put(here, Index((root,), annotations={"deep": str(number)}))
    with pytest.raises(PackageError, match="too many within each other"):
        await copy(Folder(here), root, there)
    with pytest.raises(PackageError, match="neither a manifest nor an index"):
        await copy(Folder(here), put_blob(here, b"x"), there)
    long = dataclasses.replace(root, media_type=media_types.INDEX, size=5 << 20)
    with pytest.raises(PackageError, match="a document of 5242880 bytes"):
        await copy(Folder(here), long, there)
    with pytest.raises(Damaged, match="where 9 were said"):
        await copy(Folder(here), dataclasses.replace(root, size=9), there)
    with pytest.raises(PackageError, match="not one that is checked"):
        await copy(Folder(here), dataclasses.replace(root, digest="md5:x"), there)
    assert list(there.blobs) == []


async def test_so_many_at_a_time_and_the_first_failure_is_told() -> None:
    running, most = 0, 0
    ended: list[int] = []

    async def work(number: int, fails: bool = False) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0)
            if fails:
                raise PackageError(f"number {number}")
            await asyncio.sleep(0)
        finally:
            running -= 1
            ended.append(number)

    works: list[Coroutine[Any, Any, None]] = [work(number) for number in range(10)]
    await together(works, 3)
    assert (most, running, sorted(ended)) == (3, 0, list(range(10)))
    with pytest.raises(PackageError, match="number 1"):
        await together([work(number, fails=number == 1) for number in range(10)], 3)
    assert running == 0


def test_platforms() -> None:
    assert parse_platform("linux/arm/v7") == Platform("arm", "linux", "v7")
    for wrong in ("linux", "linux/", "a/b/c/d", "linux/a b"):
        with pytest.raises(PackageError, match="is no platform such as linux/amd64"):
            parse_platform(wrong)
    assert this_platform().os == "linux"
    names = ("linux/arm/v6", "linux/arm/v7", "linux/arm")
    index = Index(
        tuple(
            dataclasses.replace(
                Descriptor(media_types.MANIFEST, "sha256:x", n), platform=parse_platform(name)
            )
            for n, name in enumerate(names)
        )
    )
    for wanted, found in (("linux/arm/v7", 1), ("linux/arm/v6", 0), ("linux/arm/v8", 2), ("linux/arm", 2)):
        assert choose(index, parse_platform(wanted)).size == found
    with pytest.raises(PackageError, match="nothing for darwin/arm"):
        choose(index, parse_platform("darwin/arm"))
