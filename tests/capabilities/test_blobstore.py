"""`wasi:blobstore` beyond its suite: what it may be told, and components that use it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import manifest
from loop_kit.capabilities.blobstore import BlobStore
from loop_kit.capabilities.blobstore._conform import PROVIDER
from loop_kit.capabilities.blobstore._container import Container
from loop_kit.errors import CallError
from loop_kit.provider import provider
from loop_kit.testing import client
from loop_kit.workspace import Workspace
from tests.capabilities.serving import HOSTS, Host, guest

GRANT = {"containers": {"c": {"mode": "rw"}}}
KEYS = {"access-key-id": "key", "secret-access-key": "secret"}
FILES = {"backend": "files", "path": "/srv"}
S3 = {"backend": "s3", "bucket": "b", **KEYS}
NATS = {"backend": "nats", "url": "nats://127.0.0.1:4222"}


@pytest.mark.parametrize(
    ("config", "grant", "words"),
    [
        ({"backend": "disk"}, {}, r"config\.backend: must be one of memory, files, s3, nats"),
        ({"path": "/srv"}, {}, r"config\.path: unknown key"),
        ({"backend": "files"}, {}, r"config\.path: missing"),
        ({**FILES, "path": "blobs"}, {}, r"config\.path: `blobs` is relative"),
        ({**FILES, "path": "/no/such/folder"}, {}, r"config\.path: .* name a folder"),
        ({**FILES, "durability": "none"}, {}, r"config\.durability"),
        ({**S3, "bucket": ""}, {}, r"config\.bucket"),
        ({"backend": "s3", "bucket": "b"}, {}, "config: say whom to be"),
        ({**S3, "ambient": True}, {}, "config: say whom to be"),
        ({"backend": "s3", "bucket": "b", "access-key-id": "k"}, {}, "config: say whom to be"),
        ({**S3, "secret-access-key": 7}, {}, r"config\.secret-access-key: .* got one of int"),
        ({**S3, "endpoint": "http://s3.example"}, {}, r"config\.endpoint: http:// is for this machine only"),
        ({**S3, "endpoint": "ftp://s3.example"}, {}, r"config\.endpoint: expected an address"),
        ({**S3, "endpoint": "https://a:b@s3.example"}, {}, r"config\.endpoint: a login does not stand"),
        ({**S3, "prefix": "a/../b"}, {}, r"config\.prefix"),
        ({**S3, "timeout": "1s"}, {}, r"config\.timeout"),
        ({"backend": "nats"}, {}, r"config\.url: write the server"),
        ({**NATS, "url": "nats://nats.example"}, {}, r"config\.url: nats\.example is another machine"),
        ({**NATS, "url": "nats://u:p@127.0.0.1"}, {}, r"config\.url: a login does not stand"),
        ({**NATS, "login": {"user": "u"}}, {}, r"config\.login: a login has"),
        ({**NATS, "tls": {"ca": "/no/such/file"}}, {}, r"config\.tls: its files cannot be used"),
        ({**NATS, "prefix": "a.b"}, {}, r"config\.prefix"),
        ({}, {"containers": {"c": {"mode": "wo"}}}, r"grant\.containers\.c\.mode"),
        ({}, {"containers": {"c": {"create": True}}}, r"grant\.containers\.c\.create: what is read-only"),
        ({}, {"containers": {"c": {"max-size": 0}}}, r"grant\.containers\.c\.max-size"),
        ({}, {"max-objects": 1}, r"grant\.max-objects: unknown key"),
    ],
)
def test_what_a_config_or_grant_may_not_say(
    config: dict[str, Any], grant: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        BlobStore(config=config, grant=grant)
    assert "secret" not in str(caught.value).replace("secret-access-key", "")


@pytest.mark.parametrize("extra", ["s3", "nats"])
def test_an_extra_that_is_not_installed_is_named(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = {"s3": "obstore", "nats": "nats"}[extra]
    for name in [library, *(name for name in sys.modules if name.startswith(f"{library}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    for own in (f"blobstore._{extra}", "_nats_connection"):
        monkeypatch.delitem(sys.modules, f"loop_kit.capabilities.{own}", raising=False)
    with pytest.raises(ValueError, match=rf'pip install "loop-kit\[{extra}\]"'):
        BlobStore(config={"s3": S3, "nats": NATS}[extra])


async def test_what_the_grant_lacks_is_told_to_the_host(caplog: pytest.LogCaptureFixture) -> None:
    store = BlobStore(grant={"containers": {"ro": {}, "rw": {"mode": "rw"}}})
    for made in (
        store.get_container("none"),
        store.list_objects("none", None),
        Container(store._store, "ro").delete_object("k"),
        store.create_container("rw"),
    ):
        with pytest.raises(loop.Err, match="access-denied"):
            await made
    assert [record.message for record in caplog.records] == [
        "the grant has no container `none`; add `containers.none.mode`",
        'the container `ro` is read-only; `containers.ro.mode = "rw"` lets it be changed',
        "the container `rw` may not be created or deleted; `containers.rw.create = true` lets it be",
    ]


async def test_no_link_and_no_device_is_an_object(tmp_path: Path) -> None:
    secret, blobs_at = tmp_path / "secret", tmp_path / "blobs"
    secret.write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "k").write_text("secret")
    for name in ("c", "own-real"):
        (blobs_at / name).mkdir(parents=True)
    (blobs_at / "own-link").symlink_to(tmp_path / "elsewhere")
    (blobs_at / "c" / "link").symlink_to(secret)
    (blobs_at / "c" / "folder").mkdir()
    os.mkfifo(blobs_at / "c" / "pipe")
    (blobs_at / "c" / os.fsdecode(b"\xff")).write_text("no text is its name")
    grant = {"containers": {"c": {"mode": "rw"}, "own-*": {"mode": "rw", "create": True}}}
    config = {"backend": "files", "path": str(blobs_at)}
    async with client("wasi:blobstore", provider=PROVIDER, config=config, grant=grant) as blobs:
        assert await blobs.whole.list_objects("c", None) == []
        for name in ("link", "folder", "pipe", "../../secret", "../secret"):
            with pytest.raises(loop.Err) as caught:
                await blobs.whole.read_object({"container": "c", "object": name})
            code: Any = caught.value.value
            assert code.case == "no-such-object"
        assert not await blobs.blobstore.container_exists("own-link")
        await blobs.whole.write_object({"container": "c", "object": "link"}, b"new")
        assert (secret.read_text(), (blobs_at / "c" / "link").read_bytes()) == ("secret", b"new")
        await blobs.blobstore.delete_container("own-real")
        with pytest.raises(loop.Err):
            await blobs.blobstore.delete_container("own-link")
    assert (tmp_path / "elsewhere" / "k").read_text() == "secret"
    assert sorted(path.name for path in blobs_at.iterdir()) == ["c", "own-link"]


async def test_the_component_bounds_its_memory() -> None:
    """By what is kept and by what is still read; a grant may say more than a component can have."""
    config, grant = {"max-memory": 1000}, GRANT | {"max-object": 1 << 40}
    provider = "component:loop:blobstore/memory"
    async with client("wasi:blobstore", provider=provider, config=config, grant=grant) as blobs:

        async def write(name: str, data: bytes) -> None:
            await blobs.whole.write_object({"container": "c", "object": name}, data)

        async def full(name: str, data: bytes) -> None:
            with pytest.raises(loop.Err, match=r"more than the 1000 bytes of `config\.max-memory`"):
                await write(name, data)

        container = await blobs.blobstore.get_container("c")
        await full("n" * 1001, b"")
        await write("k", b"x" * 600)
        await full("l", b"y" * 399)
        await write("l", b"y" * 398)
        await blobs.whole.delete_object({"container": "c", "object": "l"})
        data, ended = await container.get_data("k", 0, 1000)
        await container.clear()
        await full("l", b"y" * 600)  # it is read yet
        assert b"".join([bytes(piece) async for piece in data]) == b"x" * 600
        await write("l", b"y" * 999)
        await ended
        assert await blobs.whole.list_objects("c", None) == ["l"]


@pytest.mark.parametrize("config", [{"max-memory": -1}, {"memory": 1}])
async def test_what_the_component_may_not_be_told(config: dict[str, Any]) -> None:
    provider = "component:loop:blobstore/memory"
    async with client("wasi:blobstore", provider=provider, config=config, grant=GRANT) as blobs:
        with pytest.raises(CallError, match=r"config: (invalid value|unknown field)"):
            await blobs.whole.list_objects("c", None)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("backend", ["memory", "files"])
def test_a_component_with_plain_functions_keeps_objects(
    name: str, backend: str, hosts: dict[str, Host], tmp_path: Path
) -> None:
    config = {"backend": backend} | ({"path": str(tmp_path / "blobs")} if backend == "files" else {})
    made = BlobStore(config=config, grant=GRANT | {"max-object": 10})
    call = hosts[name].load(guest("blobstore"), {"wasi:blobstore": made}, loop.Limits())
    call("write", "k", b"value")
    assert call("read", "k") == b"value"
    for asked, words in ((("read", "x"), "no-such-object"), (("write", "k", b"x" * 11), "quota")):
        with pytest.raises(loop.Err) as caught:
            call(*asked)
        code: Any = caught.value.value
        assert code.case == words
    assert call("read", "k") == b"value"


@pytest.mark.parametrize("aside", ["", "sidecar:"])
async def test_a_workspace_keeps_objects_in_its_folder(aside: str, tmp_path: Path) -> None:
    (tmp_path / "app.wasm").write_bytes(guest("blobstore"))
    text = f"""
        components.app.path = "app.wasm"
        components.app.imports."wasi:blobstore" = {{ provider = "blobs", grant.containers.c.mode = "rw" }}
        providers.blobs = {{ use = "{aside}{PROVIDER}", config = {{ backend = "files", path = "blobs" }} }}
    """
    declared = manifest.loads(text, tmp_path / "loop.toml")
    async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
        app = await workspace.load("app")
        await app.call("write", "a/b", b"kept")
    assert (tmp_path / "blobs" / "c" / "a%2Fb").read_bytes() == b"kept"


@provider("test:closing/nothing", wit=Path(__file__).parent / "guests" / "closing.wit")
class Closing:
    """A provider whose end is told, in a file that its config names."""

    def __init__(self, *, config: dict[str, Any], grant: Any = None) -> None:
        self._path = Path(config["path"])

    def nothing(self) -> None:
        pass

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        with self._path.open("a") as file:
            file.write("closed\n")


@pytest.mark.parametrize("placement", [None, "sidecar"])
async def test_a_provider_is_closed_with_its_client(placement: str | None, tmp_path: Path) -> None:
    told = tmp_path / "told"
    async with client("test:closing", provider=Closing, config={"path": str(told)}, placement=placement):
        assert not told.exists()
    assert told.read_text() == "closed\n"


async def test_a_provider_is_closed_with_its_workspace(tmp_path: Path) -> None:
    (tmp_path / "app.wasm").write_bytes(guest("blobstore"))
    told = tmp_path / "told"
    text = f"""
        components.app.path = "app.wasm"
        components.app.imports."wasi:blobstore" = {{ provider = "p", grant.containers.c.mode = "rw" }}
        providers.p = {{ use = "python:{__name__}:ClosingBlobs", config.path = "{told}", trusted = true }}
    """
    declared = manifest.loads(text, tmp_path / "loop.toml")
    async with loop.Host(cache=tmp_path) as host, Workspace(host, declared) as workspace:
        app = await workspace.load("app")
        await app.call("write", "k", b"v")
        assert not told.exists()
    assert told.read_text() == "closed\n"


class ClosingBlobs(BlobStore):
    """The same, of objects."""

    def __init__(self, *, config: dict[str, Any], grant: Any = None) -> None:
        super().__init__(grant=grant)
        self._closing = Closing(config=config)

    async def aclose(self) -> None:
        await self._closing.aclose()
