"""Where sources are, as the user has configured the clients of each: npm, pip, Cargo, Go.

No address of any registry stands in loop-kit: what is not configured is asked of the client itself, and what that does
not know is an error which says what to set.
"""

from __future__ import annotations

import base64
import configparser
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from loop_kit.pkg._model import failed

__all__ = ["KINDS", "Place", "origin_rule", "place"]

_PATIENCE = 30.0
"""Seconds that a client may take to say how it is configured."""


@dataclass(frozen=True)
class Place:
    """Where a source is.

    Attributes:
        base: Its address.
        authorization: The value of that field, for what lies there.
        ca: Files of certificates that it is to be believed by.
        config: What its resolver is told besides.
    """

    base: str
    authorization: str | None = field(default=None, repr=False)
    ca: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


def origin_rule(url: str) -> list[str]:
    """What a grant needs for a URL that the user has configured: its origin, and the private addresses of that."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise failed(f"{_shown(url)} is no address of http or https")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    rules = [f"{parts.scheme}://{host}:{port}"]
    if parts.hostname != "localhost":
        try:
            found = {item[4][0] for item in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
        except OSError:
            found = set()  # whoever asks is told that it does not resolve
        for text in sorted(str(address).partition("%")[0] for address in found):
            address = ipaddress.ip_address(text)
            if not address.is_global:
                rules.append(f"{parts.scheme}://{f'[{text}]' if address.version == 6 else text}:{port}")
    return list(dict.fromkeys(rules))


def place(kind: str, folder: Path, name: str = "") -> Place:
    """Where a source is for whoever works in a folder.

    Args:
        kind: One of KINDS.
        folder: The workspace's.
        name: The package, where that says it (`oci`).

    Raises:
        PackageError: It is not configured.
    """
    return KINDS[kind](folder, name)


def _npm(folder: Path, _: str) -> Place:
    settings: dict[str, str] = {}
    said = {
        name.lower(): value for name, value in os.environ.items() if name.lower().startswith("npm_config_")
    }
    user = said.get("npm_config_userconfig")
    for file in (Path(user) if user else Path.home() / ".npmrc", *_above(folder, ".npmrc")):
        settings |= _npmrc(file)
    if said.get("npm_config_registry"):
        settings["registry"] = said["npm_config_registry"]
    base = settings.get("registry") or _said("npm", "config", "get", "registry", cwd=folder)
    if not base or not base.startswith("http"):
        raise failed(
            "there is no npm to ask which registry it uses, and none is configured",
            "set it in .npmrc (registry = https://…) or in NPM_CONFIG_REGISTRY, or install Node.js with npm",
        )
    login = _split_login(base)
    near = re.sub(r"^https?:", "", login[0]).rstrip("/")
    for at in (near, near.rpartition("/")[0]):
        token = settings.get(f"{at}/:_authToken") or settings.get(f"{at}:_authToken")
        basic = settings.get(f"{at}/:_auth") or settings.get(f"{at}:_auth")
        if token or basic:
            return Place(
                login[0], f"Bearer {token}" if token else f"Basic {basic}", _ca(settings.get("cafile"))
            )
    return Place(*login, _ca(settings.get("cafile")))


def _npmrc(file: Path) -> dict[str, str]:
    """The settings of a file of npm's; variables are put in, as npm does."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith(("#", ";")):
            value = value.strip().strip("\"'")
            value = re.sub(r"\$\{(\w+)\}", lambda m: os.environ.get(m[1], m[0]), value)
            found[key.strip()] = value
    return found


def _pypi(_: Path, __: str) -> Place:
    index = os.environ.get("PIP_INDEX_URL") or ""
    cert = os.environ.get("PIP_CERT")
    named = os.environ.get("PIP_CONFIG_FILE")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    files = [
        Path("/etc/pip.conf"),
        Path.home() / ".pip/pip.conf",
        config / "pip/pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    found = ""
    for file in [*files, *([Path(named)] if named and named != os.devnull else [])]:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        for section in ("global", "install", "download"):
            found = parser.get(section, "index-url", fallback=found)
            cert = cert or parser.get(section, "cert", fallback=None)
    index = index or found
    if not index:
        # what pip itself takes where nothing is configured
        own = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
        for python in dict.fromkeys((sys.executable, shutil.which("python3") or sys.executable)):
            index = index or _said(python, "-c", own)
    if not index:
        raise failed(
            "there is no pip to ask which index it uses, and none is configured",
            "`pip config set global.index-url https://…`, or set PIP_INDEX_URL",
        )
    return Place(*_split_login(index), _ca(cert))


def _crates(folder: Path, _: str) -> Place:
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    settings: dict[str, Any] = {}
    files = [home / "config", home / "config.toml"]
    for at in reversed((folder, *folder.parents)):
        files += [at / ".cargo/config", at / ".cargo/config.toml"]
    for file in files:
        try:
            _merge(settings, tomllib.loads(file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            continue
    index = _replaced(settings) or os.environ.get("CARGO_REGISTRIES_CRATES_IO_INDEX") or ""
    if not index:
        # the index that Cargo has used last; it keeps one folder for each, by its host
        with_names = sorted(
            (entry for entry in _entries(home / "registry/index") if (entry / "config.json").is_file()),
            key=lambda entry: entry.stat().st_mtime,
        )
        hosts = [entry.name.rpartition("-")[0] for entry in with_names]
        hosts = [host for host in hosts if "." in host and not host.startswith("github")]
        index = f"sparse+https://{hosts[-1]}/" if hosts else ""
    if not index.startswith("sparse+"):
        raise failed(
            "no sparse index of crates is configured" + (f" ({_shown(index)} is none)" if index else ""),
            "let Cargo use its own once (`cargo fetch` in any crate), or set `source.crates-io.replace-with` in "
            "Cargo's config.toml",
        )
    base, login = _split_login(index.removeprefix("sparse+"))
    token = (
        os.environ.get("CARGO_REGISTRY_TOKEN")
        if settings.get("registry", {}).get("global-credential-providers")
        else None
    )
    return Place(base, login or token)


def _replaced(settings: Mapping[str, Any]) -> str:
    """The index that takes the place of Cargo's own, by its settings."""
    sources = settings.get("source", {})
    name, seen = "crates-io", set[str]()
    while name not in seen:
        seen.add(name)
        source = sources.get(name, {})
        if isinstance(source.get("registry"), str) and name != "crates-io":
            return str(source["registry"])
        if not isinstance(source.get("replace-with"), str):
            break
        name = source["replace-with"]
        named = settings.get("registries", {}).get(name, {}).get("index")
        if isinstance(named, str):
            return named
    return ""


def _go(folder: Path, _: str) -> Place:
    said = os.environ.get("GOPROXY") or _said("go", "env", "GOPROXY", cwd=folder)
    first = next((one for one in re.split(r"[,|]", said) if one.startswith("http")), "")
    if not first:
        raise failed(
            "no proxy of Go modules is configured" + (f" (GOPROXY is {_shown(said)})" if said else ""),
            "`go env -w GOPROXY=https://…`, or set GOPROXY; or install Go, which knows one",
        )
    sums = os.environ.get("GOSUMDB") or _said("go", "env", "GOSUMDB", cwd=folder)
    word = sums.split("+")[0].split()[:1]
    config = {"sums": word[0]} if word and word[0] != "off" else {}
    return Place(*_split_login(first), config=config)


def _github(_: Path, __: str) -> Place:
    base = os.environ.get("GITHUB_API_URL") or ""
    if not base:
        raise failed(
            "it is not configured where the API of releases is",
            "set GITHUB_API_URL, as its own runners do, or `[resolvers.github] base` in loop.toml",
        )
    token = os.environ.get("GH_TOKEN") or os.environ.get("GITHUB_TOKEN")
    return Place(base, f"Bearer {token}" if token else None)


KINDS = {"crates": _crates, "github": _github, "go": _go, "npm": _npm, "pypi": _pypi}
"""What is known of each kind of source but `url`, whose place the manifest says, and `oci`, whose names say it."""


def _above(folder: Path, name: str) -> list[Path]:
    """A file of the nearest folder that has it, at or above."""
    found = (at / name for at in (folder, *folder.parents) if (at / name).is_file())
    nearest = next(found, None)
    return [] if nearest is None else [nearest]


def _said(*command: str, cwd: Path | None = None) -> str:
    """The last line that a client says; empty, if it is not there or says nothing."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]], cwd=cwd, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.split("\n") if done.returncode == 0 else []
    return next((line.strip() for line in reversed(lines) if line.strip() not in ("", "undefined")), "")


def _split_login(url: str) -> tuple[str, str | None]:
    """A URL without the login in it, and that as the value of `authorization`."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, None
    login, _, where = parts.netloc.rpartition("@")
    plain = urlunsplit(parts._replace(netloc=where))
    from urllib.parse import unquote

    return plain, f"Basic {base64.b64encode(unquote(login).encode()).decode()}"


def _ca(path: str | None) -> tuple[str, ...]:
    """A file of certificates, unless the system's are read from it anyway."""
    known = (None, "", os.environ.get("SSL_CERT_FILE"))
    return (
        () if path in known or not os.path.isabs(str(path)) or not os.path.isfile(str(path)) else (str(path),)
    )


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _shown(url: str) -> str:
    """A URL that may be shown: without a login."""
    return re.sub(r"//[^/@]*@", "//", url)
