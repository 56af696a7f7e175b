"""A server on loopback that speaks what npm, pip, Cargo and Go speak, GitHub's API of releases, OCI's, and files."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = Mapping[str, str | bytes]


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def tar(files: Files, *, mode: str = "w:gz", folder: str = "", executable: bool = False) -> bytes:
    """A tar of files; `executable`: all of them may be run."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as packed:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(f"{folder}{name}")
            info.size = len(_bytes(text))
            info.mode = 0o755 if executable else 0o644
            packed.addfile(info, io.BytesIO(_bytes(text)))
    return out.getvalue()


def zipped(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return out.getvalue()


def script(words: str) -> str:
    """A program that says something, and what it was given."""
    return f'#!/bin/sh\necho "{words} $*"\n'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server:
    """What is served, by path; `asked` has the paths that were asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self._npm: dict[str, dict[str, Any]] = {}
        self._pypi: dict[str, list[dict[str, Any]]] = {}
        self._crates: dict[str, list[dict[str, Any]]] = {}
        self._go: dict[str, list[str]] = {}
        self._releases: dict[str, list[dict[str, Any]]] = {}
        self._tags: dict[str, list[str]] = {}

    def put(self, path: str, data: bytes | str) -> str:
        """Serves a file; returns its URL."""
        self.files[path] = _bytes(data)
        return self.url + path

    def npm(
        self, name: str, version: str, package: Mapping[str, Any] | None = None, files: Files | None = None
    ) -> bytes:
        """Publishes a package of npm's; with neither it is one whose program says its name and version."""
        bare = name.rpartition("/")[2]
        described = {
            "name": name,
            "version": version,
            **({"bin": {bare: "run.js"}} if package is None else package),
        }
        files = (
            files
            if files is not None
            else {"run.js": f"console.log('{name} {version}', ...process.argv.slice(2))"}
        )
        data = tar({"package.json": json.dumps(described), **files}, folder="package/")
        url = self.put(f"/npm/{name}/-/{bare}-{version}.tgz", data)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        document = self._npm.setdefault(name, {"name": name, "dist-tags": {}, "versions": {}})
        document["dist-tags"]["latest"] = version
        document["versions"][version] = described | {"dist": {"tarball": url, "integrity": integrity}}
        for slash in ("%2F", "%2f"):  # the second is npm's own way
            self.put(f"/npm/{name.replace('/', slash)}", json.dumps(document))
        return data

    def wheel(
        self,
        name: str,
        version: str,
        *requires: str,
        tag: str = "py3-none-any",
        more: Files | None = None,
        apart: bool = False,
        **said: Any,
    ) -> bytes:
        """Publishes a wheel whose program says its name and version; `apart`: with its metadata beside it."""
        folder = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        files = {
            f"{name}.py": f"def main():\n    print('{name} {version}')\n",
            f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}\n",
            f"{folder}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
            **(more or {}),
        }
        data = zipped(files)
        file = f"{name}-{version}-{tag}.whl"
        url = self.put(f"/files/{file}", data)
        one = {"filename": file, "url": url, "hashes": {"sha256": sha256(data)}, "size": len(data), **said}
        if apart:
            metadata = files[f"{folder}/METADATA"]
            self.put(f"/files/{file}.metadata", metadata)
            one["core-metadata"] = {"sha256": sha256(_bytes(metadata))}
        self._pypi.setdefault(name, []).append(one)
        project = name.replace("_", "-")
        self.put(f"/pypi/{project}/", json.dumps({"meta": {}, "name": project, "files": self._pypi[name]}))
        return data

    def source(self, name: str, version: str) -> None:
        """Publishes a version of a package of Python as source."""
        file = f"{name}-{version}.tar.gz"
        url = self.put(
            f"/files/{file}", tar({"setup.py": "raise SystemExit('run')"}, folder=f"{name}-{version}/")
        )
        self._pypi.setdefault(name, []).append({"filename": file, "url": url, "hashes": {}})
        self.put(f"/pypi/{name}/", json.dumps({"meta": {}, "name": name, "files": self._pypi[name]}))

    def page(self, name: str, text: str) -> None:
        """Serves a project as a page of HTML, as old indexes do."""
        self.put(f"/pypi/{name}/", text)

    def crate(self, name: str, version: str, main: str) -> bytes:
        """Publishes a crate with a program."""
        manifest = f'[package]\nname = "{name}"\nversion = "{version}"\nedition = "2021"\n'
        data = tar({"Cargo.toml": manifest, "src/main.rs": main}, folder=f"{name}-{version}/")
        self.put(f"/dl/{name}/{version}/download", data)
        lines = self._crates.setdefault(name, [])
        lines.append({"name": name, "vers": version, "deps": [], "cksum": sha256(data), "yanked": False})
        self.put("/crates/config.json", json.dumps({"dl": f"{self.url}/dl"}))
        self.put(f"/crates/{name[:2]}/{name[2:4]}/{name}", "\n".join(map(json.dumps, lines)))
        return data

    def module(self, path: str, version: str, main: str, *, sum_: str | None = None) -> bytes:
        """Publishes a module of Go with a program, and its checksum."""
        folder = f"{path}@{version}/"
        data = zipped({f"{folder}go.mod": f"module {path}\n\ngo 1.20\n", f"{folder}main.go": main})
        self._go.setdefault(path, []).append(version)
        self.put(f"/go/{path}/@v/{version}.zip", data)
        self.put(f"/go/{path}/@v/list", "\n".join(self._go[path]))
        names = [
            (f"{folder}{name}", text)
            for name, text in (("go.mod", f"module {path}\n\ngo 1.20\n"), ("main.go", main))
        ]
        lines = "".join(f"{sha256(text.encode())}  {name}\n" for name, text in sorted(names))
        found = sum_ or "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()
        self.put(f"/go/sumdb/sums.example/lookup/{path}@{version}", f"1\n{path} {version} {found}\n")
        return data

    def release(
        self, repository: str, tag: str, assets: Mapping[str, bytes], *, digests: bool = True, **said: Any
    ) -> None:
        """Publishes a release with files."""
        listed = []
        for name, data in assets.items():
            url = self.put(f"/download/{repository}/{tag}/{name}", data)
            digest = {"digest": f"sha256:{sha256(data)}"} if digests else {}
            listed.append({"name": name, "browser_download_url": url, "size": len(data), **digest})
        releases = self._releases.setdefault(repository, [])
        releases.insert(0, {"tag_name": tag, "draft": False, "prerelease": False, "assets": listed, **said})
        self.put(f"/api/repos/{repository}/releases", json.dumps(releases))

    def image(self, name: str, tag: str, layer: bytes, title: str) -> None:
        """Pushes an artifact of one layer."""
        digest = f"sha256:{sha256(layer)}"
        kind = "application/vnd.oci.image.layer.v1.tar+gzip"
        described = {"mediaType": kind, "digest": digest, "size": len(layer)}
        described |= {"annotations": {"org.opencontainers.image.title": title}}
        self.put(f"/v2/{name}/blobs/{digest}", layer)
        empty = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": f"sha256:{sha256(b'{}')}",
            "size": 2,
        }
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": empty, "layers": [described]}
        self.put(f"/v2/{name}/manifests/{tag}", json.dumps(manifest))
        tags = self._tags.setdefault(name, [])
        tags.append(tag)
        self.put(f"/v2/{name}/tags/list", json.dumps({"name": name, "tags": tags}))

    def environment(self) -> dict[str, str]:
        """What has the clients of all sources look here."""
        return {
            "npm_config_registry": f"{self.url}/npm/",
            "PIP_INDEX_URL": f"{self.url}/pypi",
            "CARGO_REGISTRIES_CRATES_IO_INDEX": f"sparse+{self.url}/crates/",
            "GOPROXY": f"{self.url}/go",
            "GOSUMDB": "sums.example",
            "GITHUB_API_URL": f"{self.url}/api",
        }


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Sends for as long as anybody reads."""
    handler.send_response(200)
    handler.end_headers()
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            handler.wfile.write(b"\0" * (1 << 20))
    except OSError:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """A server of its own, without anything in it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.asked.append(path)
            server.headers.append(dict(self.headers.items()))
            found = server.files.get(path)
            if callable(found):
                found(self)
                return
            status, data = (404, b"nothing") if found is None else (200, found)
            span = self.headers.get("range")
            if span and found is not None:
                status, data = 206, data[int(span.removeprefix("bytes=").rstrip("-")) :]
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
