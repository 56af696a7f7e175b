"""Roots: what must stay in the store, in small files that each name an artifact and all that belongs to it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci.blobs import digest_of, is_digest

__all__ = ["PACKED", "Root", "file_of", "kept", "read", "roots"]

ROOTS = "roots"
PACKED = "packed:"
"""What the names of roots begin with that `loop pack` has made: `packed:WORKSPACE/NAME`."""
_MOST = 8 << 20
"""Bytes of a root's file."""


@dataclass(frozen=True)
class Root:
    """What stays in the store.

    Attributes:
        name: Whose it is: a workspace's member, `/srv/site/loop.lock providers.kv`, or a reference.
        digest: The artifact's.
        media_type: What it is.
        size: Bytes of all that belongs to it.
        digests: All that belongs to it, itself too.
        lock: The `loop.lock` that names it, without which it is not needed any more; None: it stays until it is
            given up by its name.
        subject: The artifact that it is about, without which it is not needed any more, as a signature has one.
    """

    name: str
    digest: str
    media_type: str
    size: int
    digests: tuple[str, ...]
    lock: Path | None = None
    subject: str | None = None

    def to_bytes(self) -> bytes:
        """As its file has it."""
        said = {
            "name": self.name,
            "artifact": {"mediaType": self.media_type, "digest": self.digest, "size": self.size},
            "digests": sorted({*self.digests, self.digest}),
            "lock": None if self.lock is None else os.fspath(self.lock),
        } | ({} if self.subject is None else {"subject": self.subject})
        return json.dumps({"root": said, "sum": _sum(said)}, indent=1).encode() + b"\n"

    @property
    def needed(self) -> bool:
        """Whether the `loop.lock` that it is for still has its digest."""
        if self.lock is None:
            return True
        try:
            with self.lock.open("rb") as file:
                return self.digest.encode() in file.read(_MOST)
        except FileNotFoundError:
            return False
        except OSError:  # it may be there
            return True


def _sum(said: Any) -> str:
    return digest_of(json.dumps(said, sort_keys=True).encode())


def file_of(store: Path, name: str) -> Path:
    """The file of a root, whether it is there or not."""
    return store / ROOTS / f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:40]}.json"


def read(path: Path) -> Root:
    """Reads a root's file.

    Raises:
        PackageError: It is none.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_MOST + 1)
    try:
        if len(data) > _MOST:
            raise ValueError(f"it has more than {_MOST} bytes")
        document: Any = json.loads(data)
        said = document["root"]
        if document["sum"] != _sum(said):
            raise ValueError("it has changed since it was written")
        artifact, lock = said["artifact"], said["lock"]
        made = Root(
            said["name"],
            artifact["digest"],
            artifact["mediaType"],
            artifact["size"],
            tuple(said["digests"]),
            None if lock is None else Path(lock),
            said.get("subject"),
        )
        if not all(map(is_digest, (made.digest, *made.digests, made.subject or made.digest))):
            raise ValueError("it names something that is no digest")
        if file_of(path.parent.parent, made.name) != path:
            raise ValueError(f"it is of {made.name!r}, whose file has another name")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        failed = PackageError(f"the root {path} is damaged: {why}")
        failed.hint = f"`loop pull` in its workspace makes it anew; if there is none any more, remove {path}"
        raise failed from None
    return made


def kept(roots: Iterable[Root]) -> list[Root]:
    """Those of some roots that are still needed: what is about another stays as long as that."""
    left = [root for root in roots if root.needed]
    found: list[Root] = []
    while fresh := [root for root in left if root.subject is None or _has(found, root.subject)]:
        found += fresh
        left = [root for root in left if root not in fresh]
    return found


def _has(roots: Iterable[Root], digest: str) -> bool:
    return any(digest in root.digests for root in roots)


def roots(store: Path) -> Iterator[Path]:
    """The files of all roots."""
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(store / ROOTS)):
            if name.endswith(".json") and not name.startswith("."):
                yield store / ROOTS / name
