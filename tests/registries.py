"""Registries on this machine: Debian's docker-registry, which has no API for referrers, go-containerregistry's, ours.

All are real servers, each started for the tests of one module. `docker_registry`, `crane_registry` and `loop_registry`
are fixtures.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.checkout import ROOT
from tests.children import until
from tests.cli import LOOP

USER, PASSWORD = "ada", "secret word"
# bcrypt of PASSWORD, as `htpasswd -B` writes it
HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuu1C7yeI3ZG3Jm.nHdnKkGJg1xTYKP9Oy\n"

DOCKER_CONFIG = """
version: 0.1
log:
  accesslog: { disabled: true }
storage:
  filesystem: { rootdirectory: FOLDER }
  delete: { enabled: true }
http:
  addr: 127.0.0.1:0
"""


def pinned(name: str) -> str:
    """A program that `tools/pinned` has built; `make test` does so before."""
    argv = [str(ROOT / "tools/pinned"), name]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def _serving(argv: list[str], log: Path, port: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """`HOST:PORT` of a server, once it has said so in words that `port` matches."""
    with (
        log.open("wb") as output,
        subprocess.Popen(argv, stderr=output, stdout=output, env=os.environ | (env or {})) as server,
    ):
        try:
            until(lambda: re.search(port, log.read_text()) or server.poll() is not None)
            found = re.search(port, log.read_text())
            assert found is not None, log.read_text()
            yield f"127.0.0.1:{found[1]}"
        finally:
            server.kill()


@contextmanager
def docker(
    folder: Path, *, login: bool = False, tls: tuple[Path, Path] | None = None, more: str = ""
) -> Iterator[str]:
    """Debian's docker-registry.

    `login`: whether it wants USER and PASSWORD. `tls`: its certificate and key. `more`: of its configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = DOCKER_CONFIG.replace("FOLDER", str(folder / "data"))
    if login:
        (folder / "htpasswd").write_text(HTPASSWD)
        text += f"auth:\n  htpasswd: {{ realm: tests, path: {folder / 'htpasswd'} }}\n"
    (folder / "config.yml").write_text(text + more)
    argv = ["docker-registry", "serve", str(folder / "config.yml")]
    env = {}
    if tls is not None:
        env = {"REGISTRY_HTTP_TLS_CERTIFICATE": str(tls[0]), "REGISTRY_HTTP_TLS_KEY": str(tls[1])}
    with _serving(argv, folder / "log", r"listening on 127\.0\.0\.1:(\d+)", env) as host:
        yield host


@contextmanager
def crane(folder: Path) -> Iterator[str]:
    """go-containerregistry's, which has an API for referrers, and keeps all in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [pinned("registry")]
    with _serving(argv, folder / "log", r"serving on port (\d+)") as host:
        yield host


@contextmanager
def ours(
    folder: Path, *args: str, port: int = 0, login: bool = False, tls: tuple[Path, Path] | None = None
) -> Iterator[str]:
    """`loop registry serve`, on FOLDER/data.

    `args`: further ones. `port`: where; any, if 0. `login`: whether it wants USER and PASSWORD. `tls`: its
    certificate and key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    argv = [
        LOOP,
        "registry",
        "serve",
        "--folder",
        str(folder / "data"),
        "--listen",
        f"127.0.0.1:{port}",
        *args,
    ]
    if login:
        user = [LOOP, "registry", "user", USER, "--users", str(folder / "users")]
        subprocess.run(user, input=f"{PASSWORD}\n", text=True, check=True, capture_output=True)
        argv += ["--users", str(folder / "users")]
    if tls is not None:
        argv += ["--tls-cert", str(tls[0]), "--tls-key", str(tls[1])]
    with _serving(argv, folder / "log", r"registry at https?://127\.0\.0\.1:(\d+)/") as host:
        yield host
