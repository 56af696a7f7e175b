"""`loop registry`: who is let in, how it ends, and what is left."""

import asyncio
import base64
import http.client
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from loop_kit.cli import main
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.layout import Layout, check
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.registry import Bounds, Content, Users, _document, _users
from loop_kit.registry._answers import Refused
from loop_kit.store import Store
from tests import registries
from tests.children import until
from tests.cli import LOOP, loop
from tests.oci.artifacts import put_component, put_signature
from tests.registry.asking import MANIFEST, Client, described, digest_of, half_sent, manifest

HASH = "$scrypt$ln=14,r=8,p=1$" + "A" * 22 + "$" + "A" * 43


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["--listen", "0.0.0.0:0"],
            "0.0.0.0:0 is open to other machines: that wants --tls-cert with --tls-key",
        ),
        (["--listen", "[::]:0"], "and --users"),
        (["--listen", "10.0.0.1:5000", "--users", "users"], "that wants --tls-cert with --tls-key\n"),
        (["--listen", "lan.example:5000"], "is no address with a port"),
        (["--listen", "127.0.0.1"], "is no address with a port"),
        (["--listen", "127.0.0.1:70000"], "is no address with a port"),
        (["--listen", "::1:5000"], "is no address with a port"),
        (["--tls-cert", "c.pem"], "--tls-cert and --tls-key go together"),
        (["--anonymous-read"], "--anonymous-read goes with --users"),
        (["--store", "--folder", "x"], "--folder and --store are two places"),
        (["--max-total", "lots"], "lots"),
    ],
)
def test_what_does_not_go_together(
    args: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["registry", "serve", *args]) == 2
    assert said in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_users_are_written_and_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    users = tmp_path / "new" / "users"

    def user(name: str, *args: str, password: str = "") -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\nnot this\n"))
        code = main(["registry", "user", name, "--users", str(users), *args])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    assert user("ada", password="secret") == (0, f"added ada in {users}  may write\n")
    assert user("ci", "--rights", "read", password="other") == (0, f"added ci in {users}  may read\n")
    assert user("ada", "--rights", "read", password="new") == (0, f"changed ada in {users}  may read\n")
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    text = users.read_text()
    assert [line.split(":")[:2] for line in text.splitlines()] == [["ada", "read"], ["ci", "read"]]
    assert "secret" not in text
    code, printed = user("ci", "--remove", "--json")
    said = {"name": "ci", "what": "removed", "rights": None, "users": str(users)}
    assert (code, json.loads(printed)) == (0, said)
    assert user("ci", "--remove") == (4, f"error: {users} has no user 'ci'\n")
    for name, password, wrong in (("a:b", "x", "is not a name"), ("ok", "", "a password has up to")):
        code, printed = user(name, password=password)
        assert (code, wrong in printed) == (4, True)
    assert asyncio.run(_asked(users)) == ["read", None]


async def _asked(path: Path) -> list[str | None]:
    users = Users(path)
    return [await users.rights("ada", password, "127.0.0.1") for password in ("new", "secret")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ada", "line 1 is not NAME:read:HASH"),
        (f"ada:admin:{HASH}", "line 1 is not NAME:read:HASH"),
        ("# a comment\n\nada:write:secret", "line 3 has no hash"),
        ("ada:write:$2y$05$abcdefghijklmnopqrstuu1C7yeI3ZG3Jm.nHdnKkGJg1xTYKP9Oy", "line 1 has no hash"),
        (f"ada:write:{HASH.replace('14', '30')}", "line 1 has no hash"),  # it would take hours
        (f"ada:write:{HASH}\nada:read:{HASH}", "line 2 has ada for the second time"),
    ],
)
def test_files_of_users_that_are_none(
    text: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "users").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["registry", "serve", "--users", "users", "--folder", "data"]) == 4
    printed = capsys.readouterr().err
    assert said in printed
    assert "loop registry user NAME --users FILE" in printed


def test_a_file_of_users_that_others_write(tmp_path: Path) -> None:
    Users.set(tmp_path / "users", "ada", "write", "secret")
    (tmp_path / "users").chmod(0o666)
    result = loop("registry", "serve", "--users", "users", cwd=tmp_path)
    assert (result.returncode, "others may write to it" in result.stderr) == (4, True)
    result = loop("registry", "serve", "--users", "nowhere", cwd=tmp_path)
    assert (result.returncode, "nowhere: No such file" in result.stderr) == (4, True)


def test_who_may_read_and_who_may_write(tmp_path: Path) -> None:
    Users.set(tmp_path / "users", "ci", "read", "reads")
    with registries.ours(tmp_path, login=True) as host:
        ada = Client(host, basic(registries.USER, registries.PASSWORD))
        digest, document = ada.push("guarded", "1", b"x")
        ci, nobody = Client(host, basic("ci", "reads")), Client(host)
        for client in (ada, ci):
            assert client.ask("GET", "/v2/").status == 200
            assert client.ask("GET", "/v2/guarded/manifests/1").body == document
        for method, path in (
            ("PUT", "/v2/guarded/manifests/2"),
            ("POST", "/v2/guarded/blobs/uploads/"),
            ("DELETE", "/v2/guarded/manifests/1"),
        ):
            got = ci.ask(method, path, document)
            assert (got.status, got.code) == (403, "DENIED")
        for client in (
            nobody,
            Client(host, basic("ci", "writes")),
            Client(host, basic("nobody", "")),
            Client(host, {"authorization": "Bearer x"}),
            Client(host, {"authorization": "Basic ===="}),
            Client(host, {"authorization": "Basic bm9ib2R5"}),
        ):
            for path in ("/v2/", f"/v2/guarded/blobs/{digest}"):
                got = client.ask("GET", path)
                assert (got.status, got.code) == (401, "UNAUTHORIZED")
                assert got["www-authenticate"] == 'Basic realm="loop registry"'
        # an upload is whoever began it's
        location = ada.begin("guarded")
        Users.set(tmp_path / "users", "eve", "write", "evil")  # the file is read anew
        assert Client(host, basic("eve", "evil")).ask("PATCH", location, b"x").code == "BLOB_UPLOAD_UNKNOWN"
        Users.remove(tmp_path / "users", "ci")
        assert ci.ask("GET", "/v2/").status == 401
    with registries.ours(tmp_path, "--anonymous-read", login=True) as host:
        nobody = Client(host)
        assert nobody.ask("GET", "/v2/guarded/manifests/1").body == document
        assert nobody.ask("POST", "/v2/guarded/blobs/uploads/").status == 401
        assert Client(host, basic("ada", "wrong")).ask("GET", "/v2/").status == 401


async def test_passwords_are_not_tried_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "users"
    Users.set(path, "ada", "write", "secret")
    users = Users(path)
    assert await users.rights("ada", "secret", "10.0.0.1") == "write"
    for _ in range(10):
        assert await users.rights("ada", "guess", "10.0.0.2") is None
    for password in ("guess", "other"):
        with pytest.raises(Refused, match="failed to log in too often") as told:
            await users.rights("ada", password, "10.0.0.2")
        assert (told.value.status, told.value.headers) == (429, (("retry-after", "60"),))
    # who was known stays so, also there
    assert await users.rights("ada", "secret", "10.0.0.2") == "write"
    assert await users.rights("ada", "guess", "10.0.0.3") is None
    # those that say the same at once wait for one hash
    again = Users(path)
    assert (
        await asyncio.gather(*(again.rights("ada", "secret", "10.0.0.4") for _ in range(40)))
        == ["write"] * 40
    )
    # many others wait for few, and not for ever
    asked = (users.rights("ada", f"guess {number}", f"10.0.1.{number}") for number in range(40))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers.count(None) == 16
    assert all(a is None or (isinstance(a, Refused) and "too many log in at once" in str(a)) for a in answers)


async def test_the_file_of_users_changes_while_somebody_logs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users"
    Users.set(path, "ada", "write", "secret")
    users, real = Users(path), _users._scrypt

    def changed(name: str, password: str) -> str | None:
        def hashed(*args: Any) -> bytes:
            monkeypatch.setattr(_users, "_scrypt", real)
            Users.set(path, name, "write", "other")
            users._load()
            return real(*args)

        monkeypatch.setattr(_users, "_scrypt", hashed)
        return asyncio.run(users.rights("ada", password, "10.0.0.1"))

    assert await asyncio.to_thread(changed, "eve", "secret") == "write"
    users._known.clear()
    assert await asyncio.to_thread(changed, "ada", "secret") is None


async def test_loop_pushes_and_pulls_with_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path / "site").create()
    descriptor, _ = put_component(layout.blobs)
    layout.add("1.0", descriptor)
    layout.add(None, put_signature(layout.blobs, descriptor)[0])
    with registries.ours(tmp_path / "registry", login=True) as host:
        result = loop("mirror", "oci-layout:site", f"{host}/air/gap", cwd=tmp_path)
        assert result.returncode == 4
        assert f"{host} wants a login" in result.stderr
        for name, value in (("", host), ("_USER", registries.USER), ("_PASSWORD", registries.PASSWORD)):
            monkeypatch.setenv(f"LOOP_REGISTRY{name}", value)
        result = loop("mirror", "oci-layout:site", f"{host}/air/gap", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        async with Registry(host) as registry:
            assert len(await registry.referrers("air/gap/site", descriptor.digest)) == 1
        result = loop("mirror", f"{host}/air/gap/site", "oci-layout:stick", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        log = (tmp_path / "registry/log").read_text()
        assert f"+ air/gap/site:1.0  {descriptor.digest} by ada" in log
        assert registries.PASSWORD not in log
    assert check(tmp_path / "stick/air/gap/site") == []


async def test_others_come_by_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setattr(Reference, "loopback", False)
    blobs = Blobs(tmp_path / "here")
    descriptor, manifest = put_component(blobs)
    with registries.ours(
        tmp_path / "registry", tls=(tmp_path / "certificate.pem", tmp_path / "key.pem")
    ) as host:
        async with Registry(host.replace("127.0.0.1", "localhost")) as registry:
            for part in manifest.parts:
                await registry.push_blob("by/tls", part, blobs)
            assert await registry.push_manifest("by/tls", manifest.to_bytes(), tag="1.0") == descriptor
            assert await registry.tags("by/tls") == ["1.0"]
    result = loop("registry", "serve", "--tls-cert", "ca.pem", "--tls-key", "ca.pem", cwd=tmp_path)
    assert result.returncode == 4
    assert "ca.pem" in result.stderr


def test_one_process_serves_a_folder(tmp_path: Path) -> None:
    with registries.ours(tmp_path) as host:
        result = loop("registry", "serve", "--folder", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
        assert result.returncode == 4
        assert f"another process serves {tmp_path / 'data'} already" in result.stderr
        result = loop("registry", "serve", "--folder", str(tmp_path / "other"), "--listen", host)
        assert result.returncode == 1
        assert "its address is in use" in result.stderr


def test_it_ends_once_what_is_sent_has_come(tmp_path: Path) -> None:
    argv = [LOOP, "registry", "serve", "--folder", "data", "--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = json.loads(server.stdout.readline())
            assert said == {
                "address": said["address"],
                "url": f"http://{said['address']}/",
                "folder": str(tmp_path / "data"),
            }
            host, data = said["address"], os.urandom(3 << 20)
            location = Client(host).begin("slow")
            url = f"{location}?digest={digest_of(data)}"
            with half_sent(host, "PUT", url, data[: 2 << 20], len(data)) as connection:
                until(lambda: Client(host).ask("GET", location)["range"] != "0-0")
                server.send_signal(signal.SIGTERM)
                until(lambda: _status(host) == 503)
                assert server.poll() is None
                connection.send(data[2 << 20 :])
                assert connection.getresponse().status == 201
            assert server.wait(timeout=20) == 0
        finally:
            server.kill()
    with registries.ours(tmp_path) as host:
        assert Client(host).ask("GET", f"/v2/slow/blobs/{digest_of(data)}").body == data


def test_it_ends_once_what_is_fetched_has_gone(tmp_path: Path) -> None:
    data = os.urandom(32 << 20)  # more than there is room for on the way
    argv = [LOOP, "registry", "serve", "--folder", "data", "--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host = json.loads(server.stdout.readline())["address"]
            digest = Client(host).push_blob("slow", data)
            connection = http.client.HTTPConnection(host, timeout=30)
            connection.request("GET", f"/v2/slow/blobs/{digest}")
            response = connection.getresponse()
            assert response.read(1000) == data[:1000]
            server.send_signal(signal.SIGTERM)
            until(lambda: _status(host) == 503)
            assert response.read() == data[1000:]
            connection.close()
            assert server.wait(timeout=20) == 0
        finally:
            server.kill()


def _status(host: str) -> int:
    try:
        return Client(host).ask("GET", "/v2/").status
    except (OSError, http.client.HTTPException):
        return 0


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    argv = [LOOP, "registry", "serve", "--folder", "data", "--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host = json.loads(server.stdout.readline())["address"]
            location = Client(host).begin("slow")
            with half_sent(host, "PATCH", location, b"a" * (2 << 20), 5 << 20):
                until(lambda: Client(host).ask("GET", location)["range"] != "0-0")
                server.send_signal(signal.SIGINT)
                until(lambda: _status(host) == 503)
                server.send_signal(signal.SIGINT)
                assert server.wait(timeout=20) == 0
        finally:
            server.kill()
    with registries.ours(tmp_path) as host:  # … and it goes on
        came = Client(host).ask("GET", location)["range"]
        assert came is not None
        assert (1 << 20) - 1 <= int(came.removeprefix("0-")) < 2 << 20


def test_what_is_there(tmp_path: Path) -> None:
    folder = ["--folder", str(tmp_path / "data")]
    assert loop("registry", "ls", *folder).stdout == f"{tmp_path / 'data'} has no repositories\n"
    with registries.ours(tmp_path) as host:
        client = Client(host)
        digest, document = client.push("acme/site", "1.0", b"x" * 1000)
        client.push("acme", "2.0", b"y")
        about = {"mediaType": "application/x", "digest": digest, "size": len(document)}
        client.push("acme/site", "signature", b"z", subject=about)
        client.push_blob("bare", b"blob")
        said = json.loads(loop("registry", "ls", "--json", *folder).stdout)
        shown = loop("registry", "ls", "acme/site", *folder).stdout.splitlines()
    names = {each["name"]: [tag["tag"] for tag in each["tags"]] for each in said["repositories"]}
    assert names == {"acme": ["2.0"], "acme/site": ["1.0", "signature"], "bare": []}
    [site] = [tag for each in said["repositories"] for tag in each["tags"] if tag["tag"] == "1.0"]
    assert site["digest"] == digest
    assert (site["size"], site["referrers"]) == (len(document) + 1002, 1)
    assert shown[0].startswith(f"acme/site:1.0  {digest}  ")
    assert shown[0].endswith("1 that refer to it")
    result = loop("registry", "ls", "acme/sit", *folder)
    assert (result.returncode, "has no repository 'acme/sit'" in result.stderr) == (4, True)


def test_the_user_s_store_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs are there once, what was not pushed is not served, and `loop store gc` knows what must stay."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    store = Store()
    with store.use() as use:
        private = use.blobs.add(b"private")
    folder = tmp_path / "loop-kit/store"
    argv = [LOOP, "registry", "serve", "--store", "--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host = json.loads(server.stdout.readline())["address"]
            client = Client(host)
            assert client.ask("GET", f"/v2/any/blobs/{private}").status == 404
            assert client.ask("POST", f"/v2/any/blobs/uploads/?mount={private}&from=other").status == 202
            assert client.ask("POST", f"/v2/any/blobs/uploads/?mount={private}").status == 202
            digest, _ = client.push("any", "1", b"pushed")
            lonely = client.push_blob("any", b"without a manifest yet")
            assert loop("store", "gc").returncode == 0
            assert client.ask("GET", f"/v2/any/manifests/{digest}").status == 200
            assert client.ask("GET", f"/v2/any/blobs/{lonely}").status == 200  # as long as it is served
            assert private not in list(Blobs(folder))
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=20) == 0
        finally:
            server.kill()
    assert loop("store", "gc").returncode == 0
    assert set(Blobs(folder)) == {digest, digest_of(b"pushed"), digest_of(b"{}")}
    assert f"registry:any@{digest}" in loop("store", "ls").stdout
    assert loop("store", "gc", "--forget", f"registry:any@{digest}").returncode == 0
    assert list(Blobs(folder)) == []


def test_it_is_full_and_has_room_again(tmp_path: Path) -> None:
    content = Content(
        Store(tmp_path), Bounds(total=100_000, uploads=2, upload_age=60, orphan_age=600), own=True
    )
    (tmp_path / "came").write_bytes(b"x" * 50_000)
    with content.opened():
        assert content.budget.used == 0
        content.budget.take(50_000)
        content.add_blob("a", digest_of(b"x" * 50_000), tmp_path / "came")
        now = time.time()
        first = content.uploads.begin("a", "", now)
        content.uploads.begin("a", "", now + 30)
        with pytest.raises(Refused, match="2 uploads have begun and not ended") as told:
            content.uploads.begin("a", "")
        assert told.value.status == 429
        used = content.budget.used
        content.tidy(now + 1)
        assert content.budget.used == used  # counted anew, it is the same
        with pytest.raises(Refused, match="the registry is full") as told:
            content.budget.take(50_000)
        assert told.value.status == 507
        content.tidy(now + 61)
        assert not first.path.exists()
        assert content.budget.used == used - 4096
        content.tidy(now + 601)  # what no manifest names goes, too
        assert content.budget.used == 0
        assert list(content.blobs) == []


def test_names_are_bounded_too(tmp_path: Path) -> None:
    # each link has the folders REPOSITORY, _blobs and sha256
    content = Content(Store(tmp_path), Bounds(entries=12))
    with content.opened():
        for name in ("a", "b"):
            (tmp_path / "came").write_bytes(b"x")
            content.add_blob(name, digest_of(b"x"), tmp_path / "came")
        content.uploads.begin("a", "").drop()
        assert content.mount("c", digest_of(b"x"), "a")
        with pytest.raises(Refused, match="may have 12 names, manifests, links and folders"):
            content.uploads.begin("a", "")
        assert content.remove_blob("b", digest_of(b"x"))
        content.tidy()
        assert content.budget.entries == 8


def test_nothing_is_left_of_what_there_was_no_room_for(tmp_path: Path) -> None:
    content = Content(Store(tmp_path), Bounds(entries=10))
    deep = "/".join("r" * 100)
    repositories = tmp_path / "registry/repositories"
    with content.opened():
        (tmp_path / "came").write_bytes(b"x")
        content.add_blob("a", digest_of(b"x"), tmp_path / "came")
        said = _document.read(manifest(b"x", config=described(b"x")), MANIFEST)
        for _ in range(2):
            with pytest.raises(Refused, match="the registry is full"):
                content.mount(deep, digest_of(b"x"), "a")
        assert os.listdir(repositories) == ["a"]
        content.put_manifest("a", None, digest_of(b"m"), b"m", said)
        assert (content.budget.entries, content.has("a")) == (6, True)
        (repositories / "a/_tags/.1.0.77.new").write_bytes(b"torn")  # the server was killed
        content.tidy()
        assert (content.budget.entries, content.has("a")) == (6, True)
        assert os.listdir(repositories / "a/_tags") == []
        # nor do the folders of what is there no more stay
        content.remove_manifest("a", digest_of(b"m"))
        content.remove_blob("a", digest_of(b"x"))
        content.tidy()
        assert content.budget.entries == 0
        assert os.listdir(repositories) == []


def test_what_comes_while_it_is_counted_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = Content(Store(tmp_path), Bounds())
    with content.opened():
        upload = content.uploads.begin("a", "")
        real = content.store.roots

        def roots() -> Any:
            upload._write(b"x" * 1000)
            return real()

        monkeypatch.setattr(content.store, "roots", roots)
        content.tidy()
        assert content.budget.used == 4096 + 1000


def test_a_client_finds_it_full(tmp_path: Path) -> None:
    with registries.ours(tmp_path, "--max-total", "100KiB") as host:
        client = Client(host)
        client.push_blob("a", b"x" * 50_000)
        data = b"y" * 60_000
        got = client.ask("POST", f"/v2/a/blobs/uploads/?digest={digest_of(data)}", data)
        assert (got.status, got.code) == (507, "DENIED")
        assert "--max-total" in got.body.decode()
        assert os.listdir(tmp_path / "data/registry/uploads") == []


def test_many_push_the_same_and_others(tmp_path: Path) -> None:
    layers = [os.urandom(200_000) for _ in range(4)]
    with registries.ours(tmp_path, "--delete") as host:

        def work(number: int) -> str:
            client = Client(host)
            digest, document = client.push("shared", "latest", layers[number % 4])
            client.push(f"own/{number}", "1", layers[number % 4], layers[(number + 1) % 4])
            assert client.ask("GET", f"/v2/shared/manifests/{digest}").body == document
            return digest

        with ThreadPoolExecutor(8) as pool:
            pushed = set(pool.map(work, range(16)))
        assert len(pushed) == 4
        got = Client(host).ask("GET", "/v2/shared/manifests/latest")
        assert digest_of(got.body) in pushed
        assert Store(tmp_path / "data").verify() == []
    assert (
        len([path for path in (tmp_path / "data/blobs/sha256").iterdir() if path.stat().st_size > 1e5]) == 4
    )


def test_a_client_that_dawdles_does_not_keep_others_out(tmp_path: Path) -> None:
    with registries.ours(tmp_path) as host:
        address = host.split(":")
        open_ones = [socket.create_connection((address[0], int(address[1]))) for _ in range(50)]
        try:
            for each in open_ones:
                each.sendall(b"GET /v2/ HTTP/1.1\r\nhost: 127.0.0.1\r\nx-")
            assert Client(host).ask("GET", "/v2/").status == 200
        finally:
            for each in open_ones:
                each.close()
