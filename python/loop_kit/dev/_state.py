"""What is kept between runs, in `.loop/dev` of the workspace: what was built from what, and the last good outputs.

Nothing in it is needed: what is missing or cannot be read is built anew. git leaves it out by a `.gitignore` in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Built", "State"]

OWN = 3
"""How sure it must be that a build writes a file itself. That it appeared while the build ran tells 2, that it was
written once more as it was 1, and that it was written otherwise by several builds in a row, between which nobody wrote
it, 1 each from the second on. What somebody else changes loses 3."""

_VERSION = 1


@dataclass
class Built:
    """What is known of one build.

    Attributes:
        inputs: The digest of its inputs when it last succeeded, or "".
        output: The digest of what it made then, or "".
        running: Whether one has begun and not ended in good order.
        writes: Files among its inputs that it may write itself: their digests when it had ended, and how sure that is;
            see `OWN`.
    """

    inputs: str = ""
    output: str = ""
    running: bool = False
    writes: dict[str, tuple[str | None, int]] = field(default_factory=dict)

    @property
    def own(self) -> set[str]:
        """Those of which it is sure."""
        return {path for path, (_, sure) in self.writes.items() if sure >= OWN}

    def wrote(self, path: str, more: int) -> None:
        """Makes it surer, by so much, that it writes a file; or less sure, of one that was taken for its own."""
        digest, sure = self.writes.get(path, (None, 0))
        self.writes[path] = digest, max(min(sure, OWN) + more, -OWN)


class State:
    """The folder `.loop/dev` of a workspace.

    Attributes:
        folder: The folder.
        files: Digests of files by path, with their signatures.
        imports: What files import, by their digests.
    """

    def __init__(self, workspace: Path) -> None:
        """Reads what there is."""
        self.folder = workspace / ".loop" / "dev"
        self.files: dict[str, tuple[tuple[int, int, int, int], str]] = {}
        self.imports: dict[str, list[str]] = {}
        self._builds: dict[str, Built] = {}
        self._saved: dict[str, int] = {}
        with contextlib.suppress(LookupError, TypeError, ValueError):
            for name, built in self._read("builds").items():
                built["writes"] = {
                    path: (digest, int(sure)) for path, (digest, sure) in built["writes"].items()
                }
                self._builds[name] = Built(**built)
        with contextlib.suppress(LookupError, TypeError, ValueError):
            known = self._read("files")
            # (size, inode, mtime, ctime, digest), by path
            self.files = {
                path: ((a, b, c, d), digest) for path, (a, b, c, d, digest) in known["files"].items()
            }
            self.imports = known["imports"]

    @property
    def mark(self) -> Path:
        """A file by which the file system's own time is told."""
        return self.folder / "now"

    def built(self, name: str) -> Built:
        """What is known of a build; `save_builds` keeps what is changed in it."""
        return self._builds.setdefault(name, Built())

    def prepare(self) -> None:
        """Makes the folder.

        Raises:
            OSError: It cannot be made.
        """
        (self.folder / "outputs").mkdir(parents=True, exist_ok=True)
        ignore = self.folder.parent / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def save_builds(self) -> None:
        """Writes what is known of builds."""
        self._write("builds", {name: asdict(built) for name, built in self._builds.items()})

    def save_files(self) -> None:
        """Writes digests and imports."""
        files = {path: [*signature, digest] for path, (signature, digest) in self.files.items()}
        self._write("files", {"files": files, "imports": self.imports})

    def output(self, digest: str) -> Path:
        """Where an output is kept."""
        return self.folder / "outputs" / f"{digest}.wasm"

    def keep(self, path: Path) -> Path:
        """Copies an output; the copy has no name yet: see `name`.

        Raises:
            OSError: There is none, or it cannot be copied.
        """
        if not path.is_file():
            raise (
                IsADirectoryError(21, "Is a directory")
                if path.is_dir()
                else FileNotFoundError(2, "No such file")
            )
        self.prepare()  # somebody may have removed it all
        copy = self.folder / "outputs" / f".{secrets.token_hex(8)}"
        try:
            shutil.copyfile(path, copy)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        return copy

    def name(self, copy: Path, digest: str) -> Path:
        """Gives a copy the name of its digest."""
        os.replace(copy, self.output(digest))
        return self.output(digest)

    def restore(self, digest: str, path: Path) -> None:
        """Puts a kept output back to where builds write it, in one step.

        Raises:
            OSError: It is not there any more, or cannot be written.
        """
        real = Path(os.path.realpath(path))
        real.parent.mkdir(parents=True, exist_ok=True)
        copy = real.with_name(f".{real.name}.{secrets.token_hex(4)}~")
        try:
            shutil.copyfile(self.output(digest), copy)
            if real.exists():
                shutil.copymode(real, copy)
            os.replace(copy, real)
        finally:
            copy.unlink(missing_ok=True)

    def prune(self, keep: Iterable[str] = (), *, copies: bool = False) -> None:
        """Removes outputs that are nobody's; and copies that were never named, where none is being made."""
        kept = {f"{digest}.wasm" for digest in keep} | {f"{b.output}.wasm" for b in self._builds.values()}
        with contextlib.suppress(OSError):
            for path in (self.folder / "outputs").iterdir():
                if path.name not in kept and (copies or not path.name.startswith(".")):
                    path.unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            said = json.loads((self.folder / f"{name}.json").read_bytes())
        except OSError:
            return {}
        if said["version"] != _VERSION:
            return {}
        return dict(said["data"])

    def _write(self, name: str, data: object) -> None:
        text = json.dumps({"version": _VERSION, "data": data})
        if self._saved.get(name) == hash(text):
            return
        path = self.folder / f"{name}.json"
        copy = path.with_name(f".{name}.{secrets.token_hex(4)}")
        try:
            copy.write_text(text)
            os.replace(copy, path)
            self._saved[name] = hash(text)
        finally:
            copy.unlink(missing_ok=True)
