"""`loop serve FOLDER`: its files, and nothing else."""

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli import LOOP, loop, serving

LARGE = os.urandom(3 << 20)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    site = folder / "site"
    for name, contents in {
        "index.html": b"<h1>first</h1>",
        "404.html": b"<h1>gone</h1>",
        "style.css": b"p {}",
        "empty.txt": b"",
        "a b/\u00e9.json": b"{}",
        "docs/index.html": b"<h1>docs</h1>",
        "bare/file": b"bytes",
        "large.png": LARGE,
        ".secret": b"no",
        ".git/config": b"no",
        ".well-known/security.txt": b"mail",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(contents)
    (folder / "above").write_text("no")
    (site / "out").symlink_to("../above")
    (site / "folder-out").symlink_to("..")
    (site / "in").symlink_to("style.css")
    with serving([LOOP, "serve", "site", "--addr", "127.0.0.1:0"], folder) as (url, _):
        yield urlsplit(url).netloc


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/", "text/html; charset=utf-8", b"<h1>first</h1>"),
        ("/index.html?v=1", "text/html; charset=utf-8", b"<h1>first</h1>"),
        ("/style.css", "text/css; charset=utf-8", b"p {}"),
        ("/in", "application/octet-stream", b"p {}"),
        ("/empty.txt", "text/plain; charset=utf-8", b""),
        ("/a%20b/%C3%A9.json", "application/json", b"{}"),
        ("/docs/", "text/html; charset=utf-8", b"<h1>docs</h1>"),
        ("/bare/file", "application/octet-stream", b"bytes"),
        ("/large.png", "image/png", LARGE),
        ("/.well-known/security.txt", "text/plain; charset=utf-8", b"mail"),
    ],
)
def test_a_file(address: str, path: str, kind: str, body: bytes) -> None:
    status, headers, read = ask(address, path)
    assert (status, headers["content-type"], read) == (200, kind, body)
    assert headers["content-length"] == str(len(body))
    assert headers["x-content-type-options"] == "nosniff"
    status, alone, read = ask(address, path, "HEAD")
    assert (status, read) == (200, b"")
    assert {**alone, "date": ""} == {**headers, "date": ""}
    known = headers["etag"]
    for asked in (known, f'"other", {known}', known.removeprefix("W/"), "*"):
        status, again, read = ask(address, path, if_none_match=asked)
        assert (status, again["etag"], read) == (304, known, b""), asked
    assert ask(address, path, if_none_match='"other"')[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/none", "/none/", "/style.css/", "/bare/", "/style.css/x",
        "/.secret", "/%2esecret", "/.git/config", "/docs/.well-known/x",
        "/../above", "/%2e%2e/above", "/..%2fabove", "/docs/../../above", "/docs/%2e%2e/style.css", "/./style.css",
        "/out", "/folder-out/above", "/folder-out/",
        "//style.css", "//evil.example/%2f..", "/docs//", "/docs//index.html", "/docs%5cindex.html",
        "/docs%2findex.html", "/style.css%00", "/%ff", "/%", "/%4", "/%zz",
        "/" + "a" * 5000,
    ],
)  # fmt: skip
def test_what_is_not_there(address: str, path: str) -> None:
    status, headers, body = ask(address, path)
    assert (status, headers["content-type"], body) == (404, "text/html; charset=utf-8", b"<h1>gone</h1>")
    assert ask(address, path, "HEAD")[0::2] == (404, b"")


@pytest.mark.parametrize(
    ("path", "there"), [("/docs", "/docs/"), ("/docs?a=/b", "/docs/?a=/b"), ("/a%20b", "/a%20b/")]
)
def test_a_directory_leads_to_its_own_address(address: str, path: str, there: str) -> None:
    status, headers, _ = ask(address, path)
    assert (status, headers["location"]) == (308, there)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_is_changed(address: str, method: str) -> None:
    status, headers, _ = ask(address, "/index.html", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_who_leaves_in_the_middle_is_nobodys_matter(address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(b"GET /large.png HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(1000)
    assert ask(address, "/large.png")[2] == LARGE


def test_a_folder_without_pages(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with serving([LOOP, "serve", "site", "--addr", "127.0.0.1:0"], tmp_path) as (url, _):
        status, _, body = ask(urlsplit(url).netloc, "/")
    assert (status, body) == (404, b"there is no such file\n")


def test_what_is_for_components_alone(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    for more in (
        ["--dir", ".::/"],
        ["--env", "A=1"],
        ["--on", "unix:s"],
        ["--allow-net", "a:1"],
        ["--offline"],
    ):
        done = loop("serve", "site", *more, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{more[0]} is for components, and site is a folder" in done.stderr
    (tmp_path / "site" / "loop.toml").touch()
    done = loop("serve", "site", cwd=tmp_path)
    assert done.returncode == 2
    assert "site is a workspace: `loop run site` serves" in done.stderr
