"""Where providers run: each placement, over each transport, in each language that is at hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_kit._address import Address
from loop_kit._login import references

__all__ = ["GUESTS", "TRANSPORTS", "Place", "Remote", "node_sdk", "places", "to_serve"]

_HERE = Path(__file__).parent
GUESTS = _HERE / "guests"
_CLASSES = {"loop:bench": "Bench", "loop:core": "Log", "loop:fsx": "Files"}

# Those that sidecars are reached by. One more name is all that another takes.
TRANSPORTS = ("unix", "shm", "stdio", "tcp", "quic", "http2", "ws", "nats")
# A program that serves `loop:bench` in plain wRPC, as others build them: `tests/interop` has one of the official crates.
_WRPC = "loop-bench-wrpc"
# Those that such a program is reached by.
_PLAIN = ("unix", "tcp", "quic")
# Those by which a provider of this machine is called as somebody else's.
_ADDRESSES = ("unix", "quic", "tcp")


@dataclass(frozen=True)
class Remote:
    """A provider that is served elsewhere, and how to be let in.

    Attributes:
        url: Its address.
        token: The file with its token, or None.
        ca: The file with the authorities that its certificate is of, or None.
        certificate: The file with this side's certificate, or None.
        key: The file with its key, or None.
    """

    url: str
    token: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def keys(self) -> dict[str, Any]:
        """What the manifest says of it."""
        tls = {
            name: str(path.absolute())
            for name, path in (("ca", self.ca), ("certificate", self.certificate), ("key", self.key))
            if path is not None
        }
        scheme, _, socket = self.url.partition(":")
        # the manifest stands elsewhere
        url = f"{scheme}:{Path(socket).absolute()}" if scheme in ("unix", "shm") else self.url
        keys: dict[str, Any] = {"use": f"remote:{url}"}
        if login := references(self.url):
            keys["login"] = login
        if self.token is not None:
            keys["token"] = {"file": str(self.token.absolute())}
        if tls:
            keys["tls"] = tls
        return keys


@dataclass(frozen=True)
class Place:
    """One way to place the providers.

    Attributes:
        placement: As in the manifest.
        transport: `inproc` within the host.
        language: What the providers are written in; `wrpc` where they speak plain wRPC, whatever it is.
        keys: What the manifest says of the provider of each package; those that are not there are not provided.
        served: Who is to be served where `remote` is this machine: its `keys` are made once it is.
    """

    placement: str
    transport: str
    language: str
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    served: bool = False

    @property
    def name(self) -> str:
        """Such as `sidecar unix python`."""
        return f"{self.placement} {self.transport} {self.language}"

    @property
    def topology(self) -> str:
        """What lies between both ends."""
        if self.transport == "inproc":
            return "one process"
        if self.placement == "sidecar" or self.served:
            return "two processes, one machine"
        return "two machines" if self._is_far() else "two processes, one machine"

    def _is_far(self) -> bool:
        uses = (str(keys["use"]).removeprefix("remote:") for keys in self.keys.values())
        return not all(Address.parse(use).is_local for use in uses)


def places(*, quick: bool = False, remote: Remote | None = None) -> list[Place]:
    """All that there are on this machine, or the provider that is served elsewhere alone. `quick`: fewer."""
    if remote is not None:
        scheme = Address.parse(remote.url).scheme
        return [Place("remote", scheme, "?", {package: remote.keys() for package in _CLASSES})]
    return list(_here(quick))


def _here(quick: bool) -> Iterator[Place]:
    builtin = {"loop:core": {"use": "builtin:core"}, "loop:fsx": {"use": "builtin:fsx"}}
    yield Place("builtin", "inproc", "rust", builtin)
    yield Place(
        "component", "inproc", "wasm", {"loop:bench": {"use": f"component:{GUESTS / 'provider.wasm'}"}}
    )
    python = {p: {"use": f"python:{_target(c)}", "trusted": True} for p, c in _CLASSES.items()}
    yield Place("python", "inproc", "python", python)
    for transport in TRANSPORTS:
        for language, keys in _sidecars().items():
            if transport == "shm" and language == "node":
                continue  # which cannot share memory, and would be measured over the socket again
            if not quick or language == "python" or transport == TRANSPORTS[0]:
                placed = {p: {**k, "transport": transport} for p, k in keys.items()}
                yield Place("sidecar", transport, language, placed)
    program = shutil.which(_WRPC)
    if program is not None:
        plain = {"use": "sidecar", "command": [program, "{address}"], "handshake": False}
        for transport in _PLAIN[:1] if quick else _PLAIN:
            yield Place("sidecar", transport, "wrpc", {"loop:bench": plain | {"transport": transport}})
    for transport in _ADDRESSES[-1:] if quick else _ADDRESSES:
        yield Place("remote", transport, "python", served=True)


def _sidecars() -> dict[str, dict[str, dict[str, Any]]]:
    """By language, what the manifest says of a sidecar for each package."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    found["python"] = {p: {"use": f"sidecar:python:{_target(c)}"} for p, c in _CLASSES.items()}
    sdk, program = node_sdk(), shutil.which("node")
    if sdk is not None and program is not None:
        script = str(_HERE / "provider.mjs")
        found["node"] = {"loop:bench": {"use": "sidecar", "command": [program, script, sdk.as_uri()]}}
    return found


def _target(cls: str) -> str:
    return f"loop_kit.bench.providers:{cls}"


def to_serve() -> dict[str, str]:
    """By package, the class that `loop_kit.serve` serves for a place that is `served`."""
    return {package: _target(cls) for package, cls in _CLASSES.items()}


def node_sdk() -> Path | None:
    """The module of the provider SDK for Node.js: a project's at or above the current folder, or this checkout's."""
    here = Path.cwd()
    installed = (folder / "node_modules/@loop-kit/provider/dist/index.js" for folder in (here, *here.parents))
    checkout = (folder / "sdk/node/dist/index.js" for folder in (here, *here.parents))
    return next((path for path in (*installed, *checkout) if path.is_file()), None)
