"""Results by their keys, in the user's cache folder: outputs as blobs, and what was written meanwhile.

A result is a small file with its own digest in it, the files that it names are blobs. Whatever is read is verified; what
is not as it should be is as if it were not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loop_kit.errors import PackageError
from loop_kit.oci.blobs import Blobs

__all__ = ["Cache", "Output", "Result", "cache_folder"]

MOST_OUTPUTS = 100_000
_LARGEST = 1 << 30
"""Bytes of one output that are kept."""


def cache_folder() -> Path:
    """Where results are kept: LOOP_TASK_CACHE, or a folder of the user's cache."""
    if given := os.environ.get("LOOP_TASK_CACHE"):
        return Path(given).absolute()
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "loop-kit" / "tasks"


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a task wrote, or a link.

    Attributes:
        path: From the workspace's folder.
        digest: `sha256:HEX` of its contents; of a link what it says.
        mode: Its permissions; -1 for a link.
        size: Its bytes.
    """

    path: str
    digest: str
    mode: int
    size: int

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.mode < 0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task.

    Attributes:
        key: The key.
        outputs: What it wrote.
        log: What it said.
        seconds: How long it took.
        origin: The repository that it comes from; "" where this machine has made it.
    """

    key: str
    outputs: tuple[Output, ...]
    log: str
    seconds: float
    origin: str = ""

    @property
    def blobs(self) -> dict[str, int]:
        """The digests of its files, and their bytes."""
        return {output.digest: output.size for output in self.outputs if not output.is_link}

    def to_bytes(self) -> bytes:
        """As it is kept."""
        return json.dumps(asdict(self), sort_keys=True).encode("utf-8", "surrogateescape")

    @classmethod
    def parse(cls, key: str, at: str | None, data: bytes) -> Result:
        """Reads what `to_bytes` wrote.

        Args:
            key: The key that it must have.
            at: The folder that all outputs must be in, from the workspace's; None: nothing is to be done with them.
            data: The bytes.

        Raises:
            ValueError: It is none, it is of another key, or an output is elsewhere.
        """
        try:
            said: dict[str, Any] = json.loads(data)
            outputs = tuple(Output(**output) for output in said["outputs"])
            found = cls(
                str(said["key"]), outputs, str(said["log"]), float(said["seconds"]), str(said["origin"])
            )
        except (KeyError, TypeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(f"it is no result: {error}") from None
        if found.key != key:
            raise ValueError(f"it is the result of {found.key}")
        for output in outputs:
            kinds = [type(output.path), type(output.digest), type(output.mode), type(output.size)]
            if kinds != [str, str, int, int]:
                raise ValueError("an output is none")
        for output in outputs if at is not None else ():
            inside = output.path if not at else output.path.removeprefix(f"{at}/")
            parts = inside.split("/")
            if (
                (at and inside == output.path)
                or not {"", ".", "..", ".git"}.isdisjoint(parts)
                or "\0" in inside
            ):
                raise ValueError(f"it has an output elsewhere: {output.path}")
            if output.mode > 0o777:
                raise ValueError(f"an output has a mode of its own kind: {output.path}")
        return found


class Cache:
    """A folder of results.

    Args:
        folder: The folder; `cache_folder()` by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder
        self.blobs = Blobs(self.folder, sync=False)

    def _path(self, key: str) -> Path:
        return self.folder / "results" / key[:2] / key

    def find(self, key: str, at: str) -> Result | None:
        """The result of a key, if there is one that is whole, which counts as its use; its blobs are not looked at."""
        found = self.read(key, at)
        if found is not None:
            with contextlib.suppress(OSError):
                os.utime(self._path(key))
        return found

    def read(self, key: str, at: str | None) -> Result | None:
        """As `find`, and counts as no use."""
        try:
            digest, _, data = self._path(key).read_bytes().partition(b"\n")
            if hashlib.sha256(data).hexdigest().encode() != digest:
                raise ValueError("its digest is another")
            return Result.parse(key, at, data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self._path(key).unlink(missing_ok=True)
            return None

    def keep(self, result: Result) -> bool:
        """Adds a result; false, where one of its blobs is not there any more.

        Raises:
            OSError: It cannot be written.
        """
        try:
            for digest in result.blobs:
                os.utime(self.blobs.path(digest))  # for `_clean`, which leaves alone what has just been used
        except FileNotFoundError:
            return False
        path, data = self._path(result.key), result.to_bytes()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{secrets.token_hex(8)}")
        fresh.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
        fresh.replace(path)
        return True

    def forget(self, key: str, result: Result) -> None:
        """Removes a result, and those of its blobs that are damaged."""
        self._path(key).unlink(missing_ok=True)
        for output in result.outputs:
            if not output.is_link:
                try:
                    self.blobs.verify(output.digest)
                except PackageError:
                    self.blobs.remove(output.digest)

    def take(self, path: str, shown: str) -> Output:
        """Adds a file, or a link, as an output.

        Raises:
            PackageError: It is too large, or neither.
            OSError: It cannot be read.
        """
        found = os.lstat(path)
        if (found.st_mode & 0o170000) == 0o120000:
            said = os.readlink(path)
            return Output(shown, said, -1, len(said))
        if found.st_size > _LARGEST:
            raise PackageError(f"{shown} has more than {_LARGEST} bytes")
        data = Path(path).read_bytes()
        digest = self.blobs.add(data)
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.blobs.path(digest))  # it may have been there for long
        return Output(shown, digest, found.st_mode & 0o777, len(data))

    def restore(self, root: str, outputs: Iterable[Output], scratch: Path) -> None:
        """Puts outputs in their places: first all are made aside, and verified, then each is renamed.

        Args:
            root: The workspace's folder.
            outputs: Those that are not there.
            scratch: A folder on the same file system.

        Raises:
            PackageError: A blob is not there, or another: nothing has been changed then.
            OSError: Something cannot be written.
        """
        made: list[tuple[str, str]] = []
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            for output in outputs:
                fresh = str(scratch / secrets.token_hex(8))
                made.append((fresh, output.path))
                if output.is_link:
                    os.symlink(output.digest, fresh)
                    continue
                data = self.blobs.read(output.digest, most=_LARGEST)
                fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    os.fchmod(fd, output.mode)
            for fresh, shown in made:
                place = os.path.join(root, shown)
                _folder(root, os.path.dirname(shown))
                os.replace(fresh, place)
        finally:
            for fresh, _ in made:
                if os.path.lexists(fresh):
                    os.unlink(fresh)


def _folder(root: str, at: str) -> None:
    """Makes a folder of the workspace, where none of those above is a link that leads away."""
    path = root
    for part in at.split("/") if at else ():
        path = os.path.join(path, part)
        if os.path.islink(path):
            raise PackageError(f"{path} is a link: nothing is restored through it")
        if not os.path.isdir(path):
            os.mkdir(path)
