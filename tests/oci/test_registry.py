"""The client of registries, against three real ones."""

import asyncio
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import trustme

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci import media_types
from loop_kit.oci.blobs import Blobs, digest_of
from loop_kit.oci.model import Descriptor, Index, Manifest, parse
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from tests import registries
from tests.oci.artifacts import put, put_blob, put_component, put_signature


@pytest.fixture(params=["docker", "crane", "loop"])
def host(request: pytest.FixtureRequest) -> str:
    found = request.getfixturevalue(f"{request.param}_registry")
    assert isinstance(found, str)
    return found


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "here")


async def push(
    registry: Registry, repository: str, blobs: Blobs, manifest: Manifest, **more: Any
) -> Descriptor:
    for part in manifest.parts:
        await registry.push_blob(repository, part, blobs)
    return await registry.push_manifest(repository, manifest.to_bytes(), **more)


async def test_what_was_put_there_is_had_again(host: str, blobs: Blobs, tmp_path: Path) -> None:
    descriptor, manifest = put_component(blobs)
    name = Reference(host, "round/trip", "1.0")
    async with Registry(host) as registry:
        assert await registry.find(name) is None
        assert await push(registry, "round/trip", blobs, manifest, tag="1.0") == descriptor
        assert await registry.resolve(name) == descriptor
        for reference in (
            name,
            name.at(digest=descriptor.digest),
            name.at(tag="x", digest=descriptor.digest),
        ):
            found, data = await registry.manifest(reference)
            assert (found, parse(data)) == (descriptor, manifest)
        there = Blobs(tmp_path / "there")
        told: list[int] = []
        for part in manifest.parts:
            await registry.pull_blob("round/trip", part, there, told.append)
            assert there.read(part.digest) == blobs.read(part.digest)
        assert sum(told) == sum(part.size for part in manifest.parts)
        await registry.pull_blob("round/trip", manifest.config, there, told.append)  # is there
        assert await registry.tags("round/trip") == ["1.0"]
        assert await registry.tags("nowhere") == []


async def test_an_index_and_an_empty_blob(host: str, blobs: Blobs) -> None:
    _, manifest = put_component(blobs)
    empty = put_blob(blobs, b"")
    manifest = dataclasses.replace(manifest, layers=(*manifest.layers, empty))
    put(blobs, manifest)
    async with Registry(host) as registry:
        pushed = await push(registry, "multi", blobs, manifest)
        index = Index((dataclasses.replace(pushed, annotations={"a": "b"}),))
        await registry.push_manifest("multi", index.to_bytes(), tag="all")
        descriptor, data = await registry.manifest(Reference(host, "multi", "all"))
        assert (descriptor.media_type, parse(data)) == (media_types.INDEX, index)
        there = Blobs(blobs.folder / "there")
        await registry.pull_blob("multi", empty, there)
        assert there.read(empty.digest) == b""


@pytest.mark.parametrize("size", [1, 3 << 20, (5 << 20) + 1])
async def test_blobs_are_sent_in_pieces(host: str, blobs: Blobs, size: int, tmp_path: Path) -> None:
    blob = put_blob(blobs, os.urandom(size))
    told: list[int] = []
    async with Registry(host, chunk=1 << 20) as registry:
        await registry.push_blob("pieces", blob, blobs, told.append)
        assert sum(told) == size
        assert await registry.has_blob("pieces", blob)
        there = Blobs(tmp_path / "there")
        await registry.pull_blob("pieces", blob, there)
        there.verify(blob.digest)
        told.clear()
        await registry.push_blob("pieces", blob, blobs, told.append)  # is there
        assert told == [size]


async def test_a_blob_is_taken_from_another_repository(
    docker_registry: str, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = put_blob(blobs, b"to be mounted" * 1000)
    async with Registry(docker_registry) as registry:
        await registry.push_blob("from/here", blob, blobs)
        blobs.remove(blob.digest)
        with pytest.raises(PackageError, match=f"{blob.digest}, of 13000 bytes, is not in"):
            await registry.push_blob("to/there", blob, blobs)
        sent: list[str] = []
        send = registry._session.web.send

        async def watched(method: str, *args: Any, **more: Any) -> Any:
            sent.append(method)
            return await send(method, *args, **more)

        monkeypatch.setattr(registry._session.web, "send", watched)
        await registry.push_blob("to/there", blob, blobs, mount="from/here")
        assert sent == ["HEAD", "POST"]  # no bytes went
        assert await registry.has_blob("to/there", blob)
        other = put_blob(blobs, b"not there")  # where it cannot be taken from it is sent
        await registry.push_blob("to/there", other, blobs, mount="from/here")
        assert await registry.has_blob("to/there", other)


async def test_signatures_are_found_by_the_api_and_by_the_tag_that_stands_in(
    host: str, blobs: Blobs, docker_registry: str
) -> None:
    descriptor, manifest = put_component(blobs)
    async with Registry(host) as registry:
        await push(registry, "signed", blobs, manifest, tag="1.0")
        assert await registry.referrers("signed", descriptor.digest) == []
        signatures = []
        for words in (b"one", b"two", b"one"):
            signature, document = put_signature(blobs, descriptor, words)
            await push(registry, "signed", blobs, document)
            signatures.append(signature)
        found = await registry.referrers("signed", descriptor.digest)
        assert {each.digest for each in found} == {each.digest for each in signatures}
        assert len(found) == 2
        assert {each.artifact_type for each in found} == {"application/x.signature+json"}
        kind = "application/x.signature+json"
        assert len(await registry.referrers("signed", descriptor.digest, kind)) == 2
        assert await registry.referrers("signed", descriptor.digest, "application/other") == []
        assert await registry.referrers("signed", digest_of(b"")) == []
        stands_in = descriptor.digest.replace(":", "-")
        has_api = await registry._by_api("signed", descriptor.digest) is not None
        assert has_api == (host != docker_registry)
        assert (stands_in in await registry.tags("signed")) != has_api


async def test_who_refer_at_the_same_time_are_all_kept(docker_registry: str, blobs: Blobs) -> None:
    descriptor, manifest = put_component(blobs, b"for many")
    async with Registry(docker_registry) as registry:
        await push(registry, "many", blobs, manifest)
        documents = [put_signature(blobs, descriptor, b"%d" % number)[1] for number in range(8)]
        await asyncio.gather(*(push(registry, "many", blobs, document) for document in documents))
        assert len(await registry.referrers("many", descriptor.digest)) == 8


async def test_what_is_not_there(host: str, blobs: Blobs, tmp_path: Path) -> None:
    name = Reference(host, "empty/place", "1.0")
    async with Registry(host) as registry:
        for ask in (registry.resolve, registry.manifest):
            with pytest.raises(PackageError, match=f"{host} does not have {name}") as told:
                await ask(name)
            assert told.value.hint == f"there is nothing in {host}/empty/place"
        _, manifest = put_component(blobs)
        for tag in ("1.0.1", "latest"):
            await push(registry, "some/place", blobs, manifest, tag=tag)
        with pytest.raises(PackageError) as told:
            await registry.resolve(Reference(host, "some/place", "1.0"))
        assert told.value.hint == "it has 1.0.1, latest"
        with pytest.raises(PackageError, match="names a repository, and nothing in it"):
            await registry.resolve(name.at())
        with pytest.raises(PackageError, match="is not in the registry"):
            await registry.resolve(Reference("localhost:1", "a", "b"))
        missing = Descriptor("application/x", digest_of(b"missing"), 7)
        with pytest.raises(PackageError, match=r"pulling .*/empty/place: .* does not have it"):
            await registry.pull_blob("empty/place", missing, Blobs(tmp_path / "there"))
        unknown = dataclasses.replace(missing, digest="md5:abc")
        with pytest.raises(PackageError, match=r"md5:abc: its algorithm is not one that is checked"):
            await registry.pull_blob("empty/place", unknown, Blobs(tmp_path / "there"))
        with pytest.raises(PackageError, match=r"malformed|expected"):
            await registry.push_manifest("empty/place", b"{}", tag="1.0")


async def test_a_blob_that_its_manifest_carries_is_not_asked_for(
    docker_registry: str, tmp_path: Path
) -> None:
    carried = Descriptor("application/x", digest_of(b"carried"), 7, data=b"carried")
    async with Registry(docker_registry) as registry:
        there = Blobs(tmp_path / "there")
        await registry.pull_blob("nowhere", carried, there)
        assert there.read(carried.digest) == b"carried"


async def test_a_manifest_whose_blobs_are_not_there_is_refused(docker_registry: str, blobs: Blobs) -> None:
    _, manifest = put_component(blobs, b"never sent")
    async with Registry(docker_registry) as registry:
        with pytest.raises(PackageError, match=r"pushing to .*/bare: .* answers 400: MANIFEST_BLOB_UNKNOWN"):
            await registry.push_manifest("bare", manifest.to_bytes(), tag="1.0")


async def test_nobody_listens(tmp_path: Path) -> None:
    async with Registry("127.0.0.1:1") as registry:
        with pytest.raises(PackageError, match=r"127.0.0.1:1: it refuses connections") as told:
            await registry.resolve(Reference("127.0.0.1:1", "a", "b"))
        assert told.value.hint == "does the registry run?"
    assert json.dumps(repr(registry)) == '"<registry 127.0.0.1:1>"'


async def test_what_was_damaged_on_its_way_is_not_kept(
    docker_registry: str, blobs: Blobs, tmp_path: Path
) -> None:
    blob = put_blob(blobs, b"a blob")
    async with Registry(docker_registry) as registry:
        await registry.push_blob("sized", blob, blobs)
        there = Blobs(tmp_path / "there")
        for size, said in ((5, "more than 5 bytes"), (7, "6 of 7 bytes")):
            with pytest.raises(Damaged, match=said):
                await registry.pull_blob("sized", dataclasses.replace(blob, size=size), there)
        assert list(there) == []


async def test_all_but_this_machine_is_asked_by_tls(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is here, and taken for one elsewhere: it speaks TLS, by the name of its certificate."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    descriptor, manifest = put_component(blobs)
    assert Registry("registry.example.com")._session.base == "https://registry.example.com"
    monkeypatch.setattr(Reference, "loopback", False)
    with registries.docker(
        tmp_path / "tls", tls=(tmp_path / "certificate.pem", tmp_path / "key.pem")
    ) as host:
        name = host.replace("127.0.0.1", "localhost")
        async with Registry(name) as registry:
            with pytest.raises(PackageError, match=f"{name}: its certificate is not to be trusted"):
                await registry.tags("any")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        async with Registry(name) as registry:
            assert await push(registry, "by/tls", blobs, manifest, tag="1.0") == descriptor
            assert await registry.tags("by/tls") == ["1.0"]
        async with Registry(host) as registry:  # an address that the certificate does not name
            with pytest.raises(PackageError, match="its certificate is not to be trusted"):
                await registry.tags("by/tls")


async def test_a_registry_behind_tls_that_does_not_know_it() -> None:
    """It says `http` in the addresses that it gives."""
    web = Registry("registry.example.com:8443")._session.web
    base = "https://registry.example.com:8443/v2/a/blobs/uploads/"
    assert (
        web.resolve(base, "http://registry.example.com/v2/a/1?x=y")
        == "https://registry.example.com:8443/v2/a/1?x=y"
    )
    assert web.resolve(base, "/v2/a/1") == "https://registry.example.com:8443/v2/a/1"
    assert web.resolve(base, "https://storage.example.com/x") == "https://storage.example.com/x"
    for wrong in (
        "http://storage.example.com/",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://[::1]/x",
    ):
        with pytest.raises(PackageError, match="which is not asked"):
            web.resolve(base, wrong)
