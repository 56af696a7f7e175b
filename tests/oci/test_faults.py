"""Registries that break off, lie, are busy, lead astray or never end."""

import datetime
import os
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci import media_types
from loop_kit.oci._session import PATIENCE
from loop_kit.oci.blobs import Blobs, digest_of
from loop_kit.oci.model import Descriptor
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from tests.oci.artifacts import put_blob, put_component, put_signature
from tests.oci.faulty import Faulty, Request, Uploads, faulty, on, says, times

DATA = os.urandom(3 << 20)
BLOB = Descriptor("application/x", digest_of(DATA), len(DATA))


@pytest.fixture(scope="module")
def real(docker_registry: str) -> str:
    return docker_registry


@pytest.fixture
def server(real: str) -> Iterator[Faulty]:
    with faulty(real) as server:
        yield server


class Pauses(list[float]):
    """What was waited for, without waiting."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def here(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "here")


async def put_there(server: Faulty, blobs: Blobs, data: bytes = DATA) -> Descriptor:
    blob = put_blob(blobs, data)
    async with Registry(server.real) as registry:
        await registry.push_blob("faulty", blob, blobs)
    return blob


def part(request: Request, sent: int | None = None, *, data: bytes = DATA) -> bool:
    """A range of DATA, as a registry answers; only `sent` bytes of it."""
    start = int((request.headers.get("range") or "bytes=0-")[6:-1])
    rest = data[start:]
    said = {"content_range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
    status = 206 if start else 200
    return request.answer(status, rest, said) if sent is None else request.broken(rest, sent, status, **said)


# ---- downloads


async def test_a_download_goes_on_where_it_broke_off(server: Faulty, pauses: Pauses, tmp_path: Path) -> None:
    there = Blobs(tmp_path)
    told: list[int] = []
    server.rules = [times(4, on("GET", "/blobs/", lambda r: part(r, 500_000)))]
    server.rules.append(on("GET", "/blobs/", part))
    async with Registry(server.host, pause=pauses) as registry:
        await registry.pull_blob("any", BLOB, there, told.append)
    assert there.read(BLOB.digest) == DATA
    assert sum(told) == len(DATA)
    ranges = [headers.get("range") for _, _, headers in server.asked]
    assert ranges == [None, *(f"bytes={n * 500_000}-" for n in (1, 2, 3, 4))]
    assert len(pauses) == 4


async def test_what_gets_further_may_break_off_for_ever(
    server: Faulty, pauses: Pauses, tmp_path: Path
) -> None:
    data = DATA * 4
    blob = Descriptor("application/x", digest_of(data), len(data))
    server.rules = [on("GET", "/blobs/", lambda r: part(r, 1 << 20, data=data))]
    async with Registry(server.host, pause=pauses) as registry:
        await registry.pull_blob("any", blob, Blobs(tmp_path))
    assert len(pauses) == 12 - 1 > PATIENCE
    assert max(pauses) < 1  # each begins to count anew


async def test_what_does_not_get_further_is_given_up_and_kept(
    server: Faulty, pauses: Pauses, tmp_path: Path
) -> None:
    there = Blobs(tmp_path)
    server.rules = [times(PATIENCE, on("GET", "/blobs/", lambda r: part(r, 10))), on("GET", "/blobs/", part)]
    async with Registry(server.host, pause=pauses) as registry:
        with pytest.raises(PackageError, match=f"{server.host}: the connection ended in the middle"):
            await registry.pull_blob("any", BLOB, there)
    assert len(pauses) == PATIENCE - 1
    assert pauses == sorted(pauses)
    server.asked.clear()
    async with Registry(server.host) as registry:  # another process, say
        await registry.pull_blob("any", BLOB, there)
    assert [headers["range"] for _, _, headers in server.asked] == [f"bytes={PATIENCE * 10}-"]
    assert there.read(BLOB.digest) == DATA


@pytest.mark.parametrize("how", ["whole", "refused", "elsewhere"])
async def test_a_registry_that_does_not_go_on(
    server: Faulty, how: str, pauses: Pauses, tmp_path: Path
) -> None:
    def again(request: Request) -> bool:
        if "range" not in request.headers:
            return request.answer(200, DATA)
        if how == "whole":
            return request.answer(200, DATA)
        if how == "refused":
            return request.answer(416)
        return request.answer(206, DATA[5:], content_range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}")

    server.rules = [times(1, on("GET", "/blobs/", lambda r: part(r, 500_000))), on("GET", "/blobs/", again)]
    told: list[int] = []
    async with Registry(server.host, pause=pauses) as registry:
        await registry.pull_blob("any", BLOB, Blobs(tmp_path), told.append)
    assert Blobs(tmp_path).read(BLOB.digest) == DATA
    assert sum(told) == len(DATA)


async def test_what_was_kept_may_be_what_is_wrong(server: Faulty, pauses: Pauses, tmp_path: Path) -> None:
    there = Blobs(tmp_path)
    partial = there.folder / ".partial" / BLOB.digest[7:]
    partial.parent.mkdir()
    partial.write_bytes(b"?" * 1000)
    told: list[int] = []
    server.rules = [on("GET", "", part)]
    async with Registry(server.host, pause=pauses) as registry:
        await registry.pull_blob("any", BLOB, there, told.append)
    assert there.read(BLOB.digest) == DATA
    assert sum(told) == len(DATA)
    assert [headers.get("range") for _, _, headers in server.asked] == ["bytes=1000-", None]


async def test_connections_are_used_again(server: Faulty, here: Blobs, tmp_path: Path) -> None:
    descriptor, manifest = put_component(here, b"one connection")
    async with Registry(server.host) as registry:
        for part in manifest.parts:
            await registry.push_blob("again", part, here)
        await registry.push_manifest("again", manifest.to_bytes(), tag="1.0")
        assert await registry.resolve(Reference(server.host, "again", "1.0")) == descriptor
        for part in manifest.parts:
            await registry.pull_blob("again", part, Blobs(tmp_path / "there"))
        assert await registry.referrers("again", descriptor.digest) == []
    assert len(server.asked) > 10
    assert server.connections <= len(server.asked) / 2  # one that is not back yet cannot be used again


# ---- lies


async def test_other_bytes_are_refused_and_not_kept(server: Faulty, tmp_path: Path, here: Blobs) -> None:
    there = Blobs(tmp_path / "there")
    server.rules = [on("GET", "/blobs/", lambda r: r.answer(200, b"!" + DATA[1:]))]
    async with Registry(server.host) as registry:
        with pytest.raises(Damaged, match=f"what {server.host} sent is not {BLOB.digest}: it is sha256:"):
            await registry.pull_blob("any", BLOB, there)
        assert list(there) == []
        assert there.sweep() == 0
        descriptor, manifest = put_component(here)
        data = manifest.to_bytes()
        other = data.replace(b'"schemaVersion":2', b'"schemaVersion":2,"annotations":{"a":"b"}')
        kind = {"content_type": media_types.MANIFEST}
        lie = kind | {"docker_content_digest": descriptor.digest}
        for reference, fields in (
            (Reference(server.host, "any", digest=descriptor.digest), kind),
            (Reference(server.host, "any", "1.0"), lie),
        ):
            server.rules = [on("GET", "", says(200, other, **fields))]
            with pytest.raises(
                Damaged, match=f"the manifest that {server.host} sent is not {descriptor.digest}"
            ):
                await registry.manifest(reference)


async def test_a_manifest_that_is_no_manifest(server: Faulty, here: Blobs) -> None:
    _, manifest = put_component(here)
    reference = Reference(server.host, "any", "1.0")
    async with Registry(server.host) as registry:
        for body, kind, said in (
            (b"<html>", "text/html", "is not JSON"),
            (b"{}", media_types.MANIFEST, "expected the key 'schemaVersion'"),
            (manifest.to_bytes(), media_types.INDEX, "as it was described"),
            (b'{"errors":[]}', "application/json", "expected the key"),
        ):
            server.rules = [says(200, body, content_type=kind)]
            with pytest.raises(PackageError, match=said) as told:
                await registry.manifest(reference)
            assert str(reference) in str(told.value)


async def test_a_head_that_lies(server: Faulty, here: Blobs) -> None:
    descriptor, manifest = put_component(here)
    fields = {"content_type": media_types.MANIFEST, "docker_content_digest": digest_of(b"other")}
    server.rules = [on("HEAD", "", lambda r: r.answer(200, fields=fields, content_length="5"))]
    async with Registry(server.host) as registry:
        with pytest.raises(Damaged, match=f"what {server.host} has is not {descriptor.digest}"):
            await registry.resolve(Reference(server.host, "any", digest=descriptor.digest))
        # of one that says too little the document is fetched
        server.rules = [
            on("HEAD", "", lambda r: r.answer(200)),
            on("GET", "", lambda r: r.answer(200, manifest.to_bytes(), content_type=media_types.MANIFEST)),
        ]
        assert await registry.resolve(Reference(server.host, "any", "1.0")) == descriptor
        server.rules = [lambda r: r.answer(201, docker_content_digest=digest_of(b"other"))]
        with pytest.raises(Damaged, match="made of the manifest"):
            await registry.push_manifest("any", manifest.to_bytes(), tag="1.0")


# ---- without end


async def test_what_never_ends(server: Faulty, tmp_path: Path) -> None:
    there = Blobs(tmp_path)
    server.rules = [lambda r: r.endless(media_types.MANIFEST)]
    async with Registry(server.host) as registry:
        with pytest.raises(Damaged, match=f"more than {len(DATA)} bytes"):
            await registry.pull_blob("any", BLOB, there)
        assert list(there) == []
        with pytest.raises(PackageError, match="a manifest has more than 4194304 bytes"):
            await registry.manifest(Reference(server.host, "any", "1.0"))
        with pytest.raises(PackageError, match="a page has more than 4194304 bytes"):
            await registry.tags("any")
        server.rules = [lambda r: r.endless(media_types.INDEX)]
        with pytest.raises(PackageError, match="an index has more than 4194304 bytes"):
            await registry.referrers("any", BLOB.digest)
        server.rules = [lambda r: r.endless(status=400)]
        with pytest.raises(PackageError, match=r"pulling .*: .* answers 400$"):
            await registry.tags("any")


async def test_pages_come_one_after_the_other_and_end(server: Faulty) -> None:
    def page(request: Request) -> bool:
        number = int(request.path.partition("last=")[2] or 0)
        more = {"link": f'</v2/any/tags/list?n=2&last={number + 2}>; rel="next"'} if number < 6 else {}
        return request.json({"name": "any", "tags": [f"v{number}", f"v{number + 1}"]}, fields=more)

    server.rules = [page]
    async with Registry(server.host) as registry:
        assert await registry.tags("any") == [f"v{number}" for number in range(8)]
        assert len(server.asked) == 4
        for link, said in (
            ("</v2/any/tags/list?n=1>; rel=next", "without end"),
            (
                "<http://192.0.2.1/v2/any/tags/list>; rel=next",
                "leads to http://192.0.2.1:80, which is not asked",
            ),
        ):
            server.rules = [says(200, b'{"tags":["a"]}', link=link)]
            with pytest.raises(PackageError, match=said):
                await registry.tags("any")
        count = iter(range(10**6))
        server.rules = [
            lambda r: r.json(
                {"tags": ["a"] * 100_000}, fields={"link": f"</v2/any/tags/list?n={next(count)}>; rel=next"}
            )
        ]
        with pytest.raises(PackageError, match="more than 100000 tags"):
            await registry.tags("any")
        server.rules = [lambda r: r.json({"tags": [1]})]
        with pytest.raises(PackageError, match="does not answer with tags"):
            await registry.tags("any")


# ---- busy


async def test_a_busy_registry_is_waited_for(server: Faulty, pauses: Pauses, here: Blobs) -> None:
    await put_there(server, here)
    date = format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30), usegmt=True)
    server.rules = [
        times(1, lambda r: r.answer(503)),
        times(1, lambda r: r.answer(429, retry_after="7")),
        times(1, lambda r: r.answer(503, retry_after=date)),
        times(1, lambda r: r.answer(500, retry_after="soon")),
        times(1, lambda r: r.hang_up()),
    ]
    async with Registry(server.host, pause=pauses) as registry:
        assert await registry.has_blob("faulty", BLOB)
    assert len(pauses) == 5
    assert pauses[0] < 1
    assert pauses[1] == 7
    assert 25 < pauses[2] <= 30
    assert 1 < pauses[3] < pauses[4] < 6


async def test_a_registry_that_stays_busy_is_given_up(server: Faulty, pauses: Pauses) -> None:
    server.rules = [lambda r: r.json({"errors": [{"code": "TOOMANYREQUESTS", "message": "later\x1b"}]}, 429)]
    async with Registry(server.host, pause=pauses) as registry:
        with pytest.raises(PackageError, match=r"answers 429 again and again: TOOMANYREQUESTS later $"):
            await registry.tags("any")
        assert len(server.asked) == PATIENCE == len(pauses) + 1
        pauses.clear()
        server.rules = [lambda r: r.answer(503, retry_after="3600")]
        with pytest.raises(PackageError, match="answers 503"):
            await registry.tags("any")
        assert pauses == []  # nobody waits for an hour


# ---- led elsewhere


async def test_blobs_may_be_elsewhere(server: Faulty, real: str, tmp_path: Path) -> None:
    with faulty(real) as storage:
        storage.rules = [lambda r: r.answer(200, DATA)]
        server.rules = [
            on(
                "GET",
                "/blobs/",
                lambda r: r.answer(307, location=f"http://{storage.host}/bucket/x?signed=yes"),
            )
        ]
        async with Registry(server.host) as registry:
            await registry.pull_blob("any", BLOB, Blobs(tmp_path))
        assert Blobs(tmp_path).read(BLOB.digest) == DATA
        assert [path for _, path, _ in storage.asked] == ["/bucket/x?signed=yes"]


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://192.0.2.1/x", "leads to http://192.0.2.1:80, which is not asked"),
        (
            "https://169.254.169.254/latest/meta-data",
            "leads to https://169.254.169.254:443, which is not asked",
        ),
        ("http://example.com/x", "leads to http://example.com:80, which is not asked"),
        ("file:///etc/passwd", "is no URL that can be asked"),
        ("http://user:word@localhost/x", "is no URL that can be asked"),
        ("http://[", "is no URL that can be asked"),
        ("/v2/any/blobs/round", "from one place to the next, without end"),
        ("", "from one place to the next, without end"),
    ],
)
async def test_but_not_anywhere(server: Faulty, location: str, said: str, tmp_path: Path) -> None:
    server.rules = [lambda r: r.answer(302, location=location)]
    async with Registry(server.host) as registry:
        with pytest.raises(PackageError, match=said):
            await registry.pull_blob("any", BLOB, Blobs(tmp_path))
    assert len(server.asked) <= 10


# ---- uploads


async def check_there(server: Faulty, blob: Descriptor, folder: Path) -> None:
    there = Blobs(folder)
    async with Registry(server.real) as registry:
        await registry.pull_blob("faulty", blob, there)
    there.verify(blob.digest)


async def test_a_download_that_trickles_does_not_go_on_for_ever(
    server: Faulty, pauses: Pauses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rules = [on("GET", "/blobs/", part)]
    monkeypatch.setattr("loop_kit.oci.registry._WINDOW", 0.0)
    monkeypatch.setattr("loop_kit.oci.registry._SLOWEST", 1 << 60)  # to which anything is too slow
    async with Registry(server.host, pause=pauses) as registry:
        with pytest.raises(PackageError, match="it sends so slowly that it would never end"):
            await registry.pull_blob("any", BLOB, Blobs(tmp_path))
        assert len(pauses) == PATIENCE - 1
        monkeypatch.setattr("loop_kit.oci.registry._SLOWEST", 0)
        await registry.pull_blob("any", BLOB, Blobs(tmp_path))  # which goes on where that was
    assert Blobs(tmp_path).read(BLOB.digest) == DATA
    starts = [int(headers["range"][6:-1]) for _, _, headers in server.asked if "range" in headers]
    assert starts == sorted(starts) != []


async def test_an_upload_goes_on_with_the_piece_that_broke_off(
    server: Faulty, pauses: Pauses, here: Blobs, tmp_path: Path
) -> None:
    blob = put_blob(here, os.urandom((3 << 20) + 5))
    patches = iter(range(100))
    server.rules = [on("PATCH", "", lambda r: next(patches) == 1 and r.hang_up())]
    told: list[int] = []
    async with Registry(server.host, chunk=1 << 20, pause=pauses) as registry:
        await registry.push_blob("faulty", blob, here, told.append)
    assert sum(told) == blob.size
    assert len(pauses) == 1
    assert server.count("POST") == 1
    await check_there(server, blob, tmp_path / "check")


@pytest.mark.parametrize("after", [2, 300_000, 1 << 20])
async def test_an_upload_goes_on_within_a_piece(
    server: Faulty, after: int, pauses: Pauses, here: Blobs
) -> None:
    data = os.urandom((3 << 20) + 5)
    blob = put_blob(here, data)
    uploads = Uploads(3, after)
    server.rules = [uploads]
    told: list[int] = []
    async with Registry(server.host, chunk=1 << 20, pause=pauses) as registry:
        await registry.push_blob("any", blob, here, told.append)
    assert uploads.data == data
    assert sum(told) == blob.size
    assert server.count("POST") == 1
    assert len(pauses) == 3
    assert max(pauses) < 0.5  # each time it got further
    starts = [
        headers["content-range"].partition("-")[0] for method, _, headers in server.asked if method == "PATCH"
    ]
    assert list(map(int, starts[:4])) == [0, *((1 << 20) + n * after for n in range(3))]


async def test_an_upload_that_is_lost_begins_anew(
    server: Faulty, pauses: Pauses, here: Blobs, tmp_path: Path
) -> None:
    blob = put_blob(here, os.urandom(3 << 20))
    patches = iter(range(100))
    server.rules = [
        on("PATCH", "", lambda r: next(patches) == 1 and r.hang_up()),
        on("GET", "/uploads/", lambda r: r.answer(404)),
    ]
    told: list[int] = []
    async with Registry(server.host, chunk=1 << 20, pause=pauses) as registry:
        await registry.push_blob("faulty", blob, here, told.append)
    assert sum(told) == blob.size
    assert server.count("POST") == 2
    await check_there(server, blob, tmp_path / "check")


@pytest.mark.parametrize("fault", ["broken", "busy", "forgotten"])
async def test_a_blob_that_is_sent_whole_is_sent_again(
    server: Faulty, fault: str, pauses: Pauses, here: Blobs, tmp_path: Path
) -> None:
    blob = put_blob(here, os.urandom(100_000))
    faults: dict[str, Any] = {
        "broken": lambda r: r.forward(only=50_000),
        "busy": lambda r: r.answer(503),
        "forgotten": lambda r: r.answer(404),
    }
    server.rules = [times(2, on("PUT", "/blobs/", faults[fault]))]
    async with Registry(server.host, pause=pauses) as registry:
        await registry.push_blob("faulty", blob, here)
    assert len(pauses) == 2
    await check_there(server, blob, tmp_path / "check")


async def test_an_upload_whose_answer_alone_is_lost_is_not_repeated(
    server: Faulty, pauses: Pauses, here: Blobs
) -> None:
    blob = put_blob(here, os.urandom(100_000))
    server.rules = [times(1, on("PUT", "/blobs/", lambda r: r.forward(unanswered=True)))]
    told: list[int] = []
    async with Registry(server.host, pause=pauses) as registry:
        await registry.push_blob("faulty", blob, here, told.append)
    assert (len(pauses), server.count("POST"), sum(told)) == (1, 1, blob.size)


async def test_an_upload_is_given_up(server: Faulty, pauses: Pauses, here: Blobs) -> None:
    blob = put_blob(here, b"never")
    server.rules = [on("PUT", "/blobs/", lambda r: r.json({"errors": [{"code": "DIGEST_INVALID"}]}, 400))]
    async with Registry(server.host, pause=pauses) as registry:
        with pytest.raises(PackageError, match=f"sending {blob.digest}: .* answers 400: DIGEST_INVALID"):
            await registry.push_blob("faulty", blob, here)
        assert server.count("POST") == PATIENCE
        server.rules = [on("POST", "", lambda r: r.answer(202))]
        with pytest.raises(PackageError, match="does not say where to send"):
            await registry.push_blob("faulty", blob, here)
        server.rules = [on("POST", "", lambda r: r.answer(202, location="http://192.0.2.1/upload"))]
        with pytest.raises(PackageError, match="which is not asked"):
            await registry.push_blob("faulty", blob, here)
        server.rules = [
            on("POST", "", lambda r: r.json({"errors": [{"code": "DENIED", "message": "no"}]}, 403))
        ]
        with pytest.raises(PackageError, match=r"pushing to .*: .* does not allow it: DENIED no"):
            await registry.push_blob("faulty", blob, here)


async def test_an_index_of_referrers_that_somebody_else_writes(server: Faulty, here: Blobs) -> None:
    """Who writes last wins in a registry: what was lost is added again, and at last it is said."""
    descriptor, manifest = put_component(here, b"raced")
    _, signature = put_signature(here, descriptor, b"raced")
    stands_in = f"/manifests/{descriptor.digest.replace(':', '-')}"
    async with Registry(server.host) as registry:
        for each in (manifest, signature):
            for blob in each.parts:
                await registry.push_blob("raced", blob, here)
        await registry.push_manifest("raced", manifest.to_bytes())
        server.rules = [times(2, on("PUT", stands_in, lambda r: r.answer(201)))]  # and is overwritten
        await registry.push_manifest("raced", signature.to_bytes())
        assert len(await registry.referrers("raced", descriptor.digest)) == 1
        assert server.count("PUT", stands_in) == 3
        other, signature = put_signature(here, descriptor, b"raced again")
        for blob in signature.parts:
            await registry.push_blob("raced", blob, here)
        server.rules = [on("PUT", stands_in, lambda r: r.answer(201))]
        with pytest.raises(PackageError, match="does not keep what is written to it"):
            await registry.push_manifest("raced", signature.to_bytes())
        assert other.digest not in {
            each.digest for each in await registry.referrers("raced", descriptor.digest)
        }
