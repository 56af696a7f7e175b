"""What is installed, in the user's data folder: files by digest, and these unpacked; whole or not at all."""

from __future__ import annotations

import bz2
import contextlib
import fcntl
import hashlib
import json
import lzma
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, cast

from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor
from loop_kit.pkg._model import File, Locked, Platform, failed
from loop_kit.store import Store as Shared

__all__ = ["Store", "data_folder", "key_of"]

_MOST_ENTRIES, _MOST_BYTES = 100_000, 4 << 30
"""Of what is unpacked."""
_ENTRIES = 20_000
"""Files that a resolver is told of."""
_CONTENT = 1 << 20
_SEEN = 64
"""Files whose content a resolver sees."""
_KIND = "application/octet-stream"
"""What the store is told that a package's file is."""
_XZ, _BZIP2 = b"\xfd7zXZ\x00", b"BZh"


def data_folder() -> Path:
    """loop-kit's folder in the user's data folder."""
    root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(root) / "loop-kit"


def key_of(value: Any) -> str:
    """A name that is another one for anything else."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:40]


class Store:
    """Files, trees (one file unpacked) and tools (trees put together, or what was built of one).

    Any number of processes may use it at once: what is there is whole, and is never changed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        top = data_folder() if folder is None else folder
        self._shared = Shared(top / "store")
        self.blobs = Blobs(top / "store")
        self.folder = top / "packages"

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Has what is fetched stay meanwhile; what comes later is kept by `pin`.

        Raises:
            PackageError: The store cannot be used; also in the place of OSError from within.
        """
        with self._shared.use():
            yield

    def pin(self, name: str, locked: Locked, here: Platform, lock: Path) -> None:
        """Has the files of a package stay for as long as a lock names them.

        Raises:
            PackageError: That cannot be written down.
        """
        files = [file for node in locked.nodes if (file := node.file_for(here)) is not None]
        there = [file for file in files if self.blobs.size(file.digest) is not None]
        if there:
            first = there[0]
            root = Descriptor(_KIND, first.digest, self.blobs.size(first.digest) or 0)
            total = sum(self.blobs.size(file.digest) or 0 for file in there)
            self._shared.pin(name, root, [file.digest for file in there], size=total, lock=lock)

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A folder of this process alone, which is gone afterwards, also where processes before were killed."""
        place = self.folder / "tmp"
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep(place)
        with contextlib.ExitStack() as stack:
            while True:
                made = place / secrets.token_hex(8)
                lock = stack.enter_context(open(made.with_suffix(".lock"), "xb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.fstat(lock.fileno()).st_nlink:  # nobody has swept it away before it was locked
                    break
            made.mkdir()
            try:
                yield made
            finally:
                shutil.rmtree(made, ignore_errors=True)
                made.with_suffix(".lock").unlink(missing_ok=True)

    @staticmethod
    def _sweep(place: Path) -> None:
        """Removes what processes left that were killed: the system has let go of their locks."""
        for lock in place.glob("*.lock"):
            with contextlib.suppress(OSError), open(lock, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_nlink:
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink()

    def tree(self, file: File) -> Path:
        """The folder of a file that is unpacked, whether it is or not."""
        return self.folder / "trees" / key_of(file.key)

    def tool(self, key: str) -> Path:
        """The folder of a tool that was put together or built, whether it is there or not."""
        return self.folder / "tools" / key

    def unpack(self, file: File) -> Path:
        """Unpacks a file of the store, unless it is unpacked.

        Raises:
            Damaged: It is not any more what it was.
            PackageError: It is no such archive, or has something in it that is not unpacked.
        """
        place = self.tree(file)
        if place.is_dir():
            return place
        from loop_kit.oci.archive import Bounds, untar, unzip  # what is installed needs none of it

        bounds = Bounds(entries=_MOST_ENTRIES, size=_MOST_BYTES)
        self.blobs.verify(file.digest)
        with self.temporary() as folder, self.blobs.path(file.digest).open("rb") as packed:
            made = folder / "tree"
            if file.archive == "zip":
                unzip(packed, made, bounds, strip=file.strip, what=file.file)
            elif file.archive == "tar":
                with _opened(packed, file.file) as stream:
                    untar(stream, made, bounds, strip=file.strip, what=file.file)
            else:
                made.mkdir()
                program = made / Path(file.file).name
                with program.open("xb") as out:
                    shutil.copyfileobj(packed, out)
                program.chmod(0o755)
            if file.only:
                _keep(made, file.only)
            self.settle(made, place)
        return place

    def settle(self, made: Path, place: Path) -> None:
        """Gives what was made its name, unless another process has made the same meanwhile."""
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.rename(made, place)
        except OSError:
            if not place.is_dir():
                raise


@contextlib.contextmanager
def _opened(packed: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """A tar, whatever it is compressed by; `untar` itself knows gzip and zstd."""
    start = packed.read(6)
    packed.seek(0)
    try:
        if start.startswith(_XZ):
            with lzma.open(packed) as stream:
                yield cast(BinaryIO, stream)
        elif start.startswith(_BZIP2):
            with bz2.open(packed) as unpacked:
                yield cast(BinaryIO, unpacked)
        else:
            yield packed
    except (lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; bz2 says what is wrong with its data by one without a number
        raise failed(f"{name} is damaged: {error}") from None


def _keep(folder: Path, wanted: Sequence[str]) -> None:
    """Removes all that is not wanted."""
    names = {name.strip("/") for name in wanted}
    for at, folders, files in os.walk(folder, topdown=False):
        inside = os.path.relpath(at, folder)
        for name in files + [one for one in folders if os.path.islink(os.path.join(at, one))]:
            path = name if inside == "." else f"{inside}/{name}"
            if not any(path == one or path.startswith(f"{one}/") for one in names):
                os.unlink(os.path.join(at, name))
        if inside != "." and not os.listdir(at):
            os.rmdir(at)


def entries(folder: Path, metadata: Sequence[str]) -> list[dict[str, Any]]:
    """What a resolver is told of a tree: paths, what may be run, and the content of what it asks to see."""
    found: list[dict[str, Any]] = []
    seen = 0
    for at, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if len(found) >= _ENTRIES:
                return found
            whole = os.path.join(at, name)
            path = os.path.relpath(whole, folder)
            content = None
            try:
                state = os.lstat(whole)
                regular = stat.S_ISREG(state.st_mode)
                if (
                    regular
                    and seen < _SEEN
                    and state.st_size <= _CONTENT
                    and any(_fits(path, one) for one in metadata)
                ):
                    seen += 1
                    content = Path(whole).read_bytes()
                path.encode()
            except (OSError, UnicodeEncodeError):
                continue
            found.append(
                {"path": path, "executable": regular and bool(state.st_mode & 0o111), "content": content}
            )
    return found


def _fits(path: str, pattern: str) -> bool:
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(
        fnmatchcase(part, one.replace("[", "[[]").replace("?", "[?]"))
        for part, one in zip(parts, wanted, strict=True)
    )
