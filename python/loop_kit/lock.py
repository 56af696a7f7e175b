"""`loop.lock`: what the artifacts that a `loop.toml` names were when they were last resolved.

It stands beside the manifest, is written by `loop pull` and `loop update`, and is read as strictly as the manifest.
Tables at its top that are not known here belong to others, and are kept as they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from loop_kit.errors import ManifestError, Problem
from loop_kit.manifest._shape import Choice, Cursor, Field, Free, Integer, ListOf, MapOf, Table, Text
from loop_kit.manifest._source import MAX_BYTES, Source
from loop_kit.manifest._text import NAME, TEXT
from loop_kit.manifest._toml import inline, key
from loop_kit.store._folder import put

__all__ = ["Entry", "Lock", "changing", "lock_of", "read"]

VERSION = 1
_HEADER = (
    "# Made by `loop pull` and `loop update`, which write it anew: what the artifacts of the manifest beside it are.\n"
    "# Keep it with the manifest. It is not to be edited.\n"
)

_DIGEST = Text(
    "a digest such as sha256:…, in 64 hexadecimal digits", r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"
)
_SIZE = Integer(0)
_PLATFORM = r"^[a-z0-9_]+/[a-z0-9_]+(/[a-z0-9_.]+)?$"


@dataclass(frozen=True)
class Entry:
    """What an artifact was resolved to.

    Attributes:
        reference: What the manifest asked for, `oci:…` or `oci-layout:…`.
        digest: The artifact's: of its manifest, or of its index where it is one for several platforms.
        size: Bytes of all that belongs to it, for this platform.
        kind: `component`, or `provider` for one that runs in a process of its own.
        version: The version that it says it has, or its tag, or "".
        code: The digest of the `.wasm` of a component.
        signed_by: Who signed it, as the policy found; "" where nobody was asked for.
        serial: That of the release, as it is signed; older ones are refused from then on.
        signatures: The digests of the manifests of its signatures.
        exports: Capabilities that it provides.
        imports: Capabilities that it needs.
        grants: What it needs to be granted, by capability.
        platforms: Of an index: the digests of what it has, by platform.
    """

    reference: str
    digest: str
    size: int
    kind: Literal["component", "provider"]
    version: str = ""
    code: str | None = None
    signed_by: str = ""
    serial: int = 0
    signatures: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    grants: Mapping[str, Any] = field(default_factory=dict)
    platforms: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lock:
    """A whole `loop.lock`.

    Attributes:
        components: Entries of the components that are artifacts, by the components' names.
        providers: Entries of the providers, by theirs.
        others: What belongs to others.
    """

    components: Mapping[str, Entry] = field(default_factory=dict)
    providers: Mapping[str, Entry] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)

    def to_text(self) -> str:
        """The file: sorted, and the same for the same entries."""
        parts = [f"{_HEADER}version = {VERSION}\n"]
        for kind, entries in (("components", self.components), ("providers", self.providers)):
            for name in sorted(entries):
                parts.append(f"\n[{kind}.{key(name)}]\n{_entry(entries[name])}")
        parts += [_written((name,), self.others[name]) for name in sorted(self.others)]
        # values of others come first: after a table they would be its own
        values = [part for part in parts[1:] if not part.startswith("\n[")]
        tables = [part for part in parts[1:] if part.startswith("\n[")]
        return "".join([parts[0], *values, *tables])


def _entry(entry: Entry) -> str:
    lines = []
    for field_ in dataclasses.fields(Entry):
        value = getattr(entry, field_.name)
        if value in (None, "", (), {}) or (field_.name == "serial" and not value):
            continue
        if isinstance(value, Mapping):
            value = _sorted(value)
        elif isinstance(value, tuple):
            value = sorted(value)
        lines.append(f"{field_.name.replace('_', '-')} = {inline(value)}\n")
    return "".join(lines)


def _sorted(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _sorted(value[name]) for name in sorted(value)}
        case list() | tuple():
            return [_sorted(item) for item in value]
        case _:
            return value


def _written(keys: tuple[str, ...], value: Any) -> str:
    """A value of somebody else's: tables with headers where they are tables, all else on one line."""
    path = ".".join(map(key, keys))
    if isinstance(value, Mapping) and value:
        plain = {name: item for name, item in value.items() if not isinstance(item, Mapping)}
        lines = "".join(f"{key(name)} = {inline(_sorted(plain[name]))}\n" for name in sorted(plain))
        below = "".join(_written((*keys, name), value[name]) for name in sorted(value.keys() - plain.keys()))
        return (f"\n[{path}]\n{lines}" if plain else "") + below
    if isinstance(value, Mapping):
        return f"\n[{path}]\n"
    return f"{path} = {inline(_sorted(value))}\n"


def _made(**values: Any) -> Entry:
    return Entry(**{name.replace("-", "_"): value for name, value in values.items()})


def _verify(raw: Mapping[str, Any], at: Cursor) -> None:
    if raw.get("kind") == "component" and "code" not in raw:
        at.problem('a component has "code", the digest of its .wasm')


ENTRY = Table(
    "artifact",
    "What an artifact was resolved to.",
    _made,
    {
        "reference": Field(TEXT, "What the manifest asked for.", required=True),
        "digest": Field(_DIGEST, "The digest of its manifest or index.", required=True),
        "size": Field(_SIZE, "Bytes of all that belongs to it.", required=True),
        "kind": Field(Choice(("component", "provider")), "What it is.", required=True),
        "version": Field(TEXT, "The version that it says it has, or its tag."),
        "code": Field(_DIGEST, "The digest of the .wasm of a component."),
        "signed-by": Field(TEXT, "Who signed it."),
        "serial": Field(Integer(0), "The serial of the release."),
        "signatures": Field(ListOf(_DIGEST), "The digests of its signatures."),
        "exports": Field(ListOf(TEXT), "Capabilities that it provides."),
        "imports": Field(ListOf(TEXT), "Capabilities that it needs."),
        "grants": Field(MapOf(Free()), "What it needs to be granted, by capability."),
        "platforms": Field(
            MapOf(_DIGEST, key_pattern=_PLATFORM, key_expects="a platform such as linux/amd64"),
            "Digests of what an index has, by platform.",
        ),
    },
    verify=_verify,
)

_ENTRIES = MapOf(ENTRY, key_pattern=NAME.pattern, key_expects=NAME.expects)
_LOCK = Table(
    "lock",
    "What the artifacts of a workspace are.",
    dict,
    {
        "version": Field(Integer(1), "The version of this format.", required=True),
        "components": Field(_ENTRIES, "Components, by name."),
        "providers": Field(_ENTRIES, "Providers, by name."),
    },
)


def lock_of(manifest: Path) -> Path:
    """The lock of a manifest's file: `loop.lock` of `loop.toml`."""
    return manifest.with_suffix(".lock")


def read(path: Path, *, shown: str | None = None) -> Lock:
    """Reads a lock; one that is not there is empty.

    Args:
        path: The file.
        shown: How errors name it.

    Raises:
        ManifestError: It cannot be read, or says something that is not allowed: every problem, with line and key.
    """
    shown = shown or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise ManifestError(
            [Problem(shown, None, None, "", f"cannot be read: {error.strerror or error}")]
        ) from None
    source = Source.decode(path, shown, data)
    document = source.parse()
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        message = f"is of a newer loop-kit, which writes version {version} of it"
        raise ManifestError(
            [source.problem(("version",), message, "use that one, or make it anew by `loop update`")]
        )
    cursor = Cursor(source, [])
    known = {name: value for name, value in document.items() if name in _LOCK.fields}
    said = _LOCK.check(known, cursor)
    if cursor.report:
        raise ManifestError(cursor.report)
    others = {name: value for name, value in document.items() if name not in known}
    return Lock(said.get("components", {}), said.get("providers", {}), others)


@contextlib.contextmanager
def changing(path: Path) -> Iterator[Change]:
    """The right to change a lock: read anew under it, since another process may just have written.

    Raises:
        ManifestError: It cannot be read or written.
    """
    try:
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritten(path, error) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield Change(path, read(path))
    finally:
        os.close(fd)


class Change:
    """A lock that nobody else changes meanwhile.

    Attributes:
        lock: As it is.
    """

    def __init__(self, path: Path, lock: Lock) -> None:
        self._path = path
        self.lock = lock

    def write(self, lock: Lock) -> bool:
        """Has the file hold another lock, at once; returns whether that is another. An empty one needs no file.

        Raises:
            ManifestError: It cannot be written; it is as it was.
        """
        data = lock.to_text().encode()
        try:
            before = self._path.read_bytes() if self._path.exists() else None
            if before == data or (before is None and lock == Lock()):
                return False
            put(self._path, data, 0o666)
        except OSError as error:
            raise _unwritten(self._path, error) from None
        self.lock = lock
        return True


def _unwritten(path: Path, error: OSError) -> ManifestError:
    return ManifestError(
        [Problem(str(path), None, None, "", f"cannot be written: {error.strerror or error}")]
    )
