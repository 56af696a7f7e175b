"""The files of a workspace: which there are, and their digests. What has not changed is not looked at again.

Folders are walked by `loop:fsx`, which knows what git ignores, and again only if one of them, or a `.gitignore`, has
changed. Files are read again only if their signature is another, or says nothing yet: see `clock`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from typing import Any

from loop_kit.task._globs import BUILT, Globs
from loop_kit.task._plan import Plan, Task
from loop_kit.task._stat import Signature, clock, signature
from loop_kit.task._where import FILE

__all__ = ["Looks", "digest_of_file"]

_CHUNK = 1 << 20


def digest_of_file(path: str) -> str:
    """`sha256:HEX` of a file's contents.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        data = file.read(_CHUNK)
        found = hashlib.sha256(data)
        while len(data) == _CHUNK:
            data = file.read(_CHUNK)
            found.update(data)
    return f"sha256:{found.hexdigest()}"


class Looks:
    """What is known of the files of a workspace. All paths are from its folder, unless they say otherwise.

    Args:
        plan: The workspace's tasks.
        mark: A path for a file on the file system of the workspace, by which its time is told.
        kept: What `keep` returned last time.
    """

    def __init__(self, plan: Plan, mark: str, kept: dict[str, Any]) -> None:
        self.plan = plan
        self.root = plan.root
        self._start = os.path.join(
            plan.root, ""
        )  # `join` for each of thousands of paths takes longer than to look
        self._mark = mark
        self._digests: dict[str, list[Any]] = kept.get("digests", {})
        self._walks: dict[str, dict[str, Any]] = kept.get("walks", {})
        self._used: dict[str, list[Any]] = {}
        self._walked: set[str] = set()
        self._are_folders: dict[str, bool] = {}
        self._globs: dict[str, tuple[Globs, Globs]] = {}
        self._walker: _Walker | None = None
        self._members = frozenset(at for at in plan.members.values() if at)
        self.begin()

    def begin(self) -> None:
        """Looks at everything anew from here on."""
        self._clock = clock(self._mark)
        self._walked.clear()
        self._are_folders.clear()

    def close(self) -> None:
        """Lets go of what walks. Again is harmless."""
        if self._walker is not None:
            self._walker.close()
            self._walker = None

    def keep(self, *, whole: bool) -> dict[str, Any]:
        """What needs not be looked at again next time; with `whole`, of what was looked at alone."""
        return {
            "digests": self._used if whole else {**self._digests, **self._used},
            "walks": {base: walk for base, walk in self._walks.items() if walk["known"]},
        }

    # ---- which files

    def globs(self, task: Task) -> tuple[Globs, Globs]:
        """The inputs and the outputs of a task."""
        found = self._globs.get(task.id)
        if found is None:
            inputs = ("**",) if task.inputs is None else task.inputs
            found = self._globs[task.id] = Globs(task.at, inputs), Globs(task.at, task.outputs)
        return found

    def inputs(self, task: Task) -> list[str]:
        """The files that a task reads, sorted; of those that it names also what is not there."""
        if task.run is None:
            return []
        inputs, outputs = self.globs(task)
        found: set[str] = set()
        for base in inputs.bases:
            walk = self.walk(base)
            if walk is None:
                found.update([base] if inputs.takes(base) else [])
            else:
                found.update(path for path in walk["files"] if inputs.takes(path))
        if task.inputs is None:
            found = {path for path in found if self._by_default(task, path)}
        return sorted(path for path in found if not outputs.takes(path))

    def takes(self, task: Task, path: str) -> bool:
        """Whether a file would be an input of a task, if it were there."""
        inputs, outputs = self.globs(task)
        if task.run is None or not inputs.takes(path) or outputs.takes(path):
            return False
        return task.inputs is not None or self._by_default(task, path)

    def _by_default(self, task: Task, path: str) -> bool:
        parts = path.split("/")
        depth = len(task.at.split("/")) if task.at else 0
        if parts[-1] == FILE or not BUILT.isdisjoint(parts[depth:-1]):
            return False
        return not any("/".join(parts[:count]) in self._members for count in range(depth + 1, len(parts)))

    def watch(self, task: Task) -> Iterable[str]:
        """What else, besides its inputs, may change which these are."""
        for base in self.globs(task)[0].bases:
            walk = self.walk(base)
            yield from [base] if walk is None else walk["watch"]

    def walk(self, base: str) -> dict[str, Any] | None:
        """What is in a folder and below; None, if it is none."""
        known = self._walks.get(base)
        if base in self._walked:
            return known
        self._walked.add(base)
        path = os.path.normpath(os.path.join(self.root, base))  # it may lead out of the workspace
        if not os.path.isdir(path) or os.path.islink(path):
            self._walks.pop(base, None)
            return None
        if known is not None and known["known"] and known["seen"] == self._seen(known["watch"])[0]:
            return known
        before = self._clock
        if self._walker is None:
            self._walker = _Walker(self.root)
        folders, files, links = self._walker.walk(path)
        shown = [self._relative(at) for at in folders]
        ignores = [
            *self._walker.ignores(path),
            *(at for at in files if at.endswith("/.gitignore")),
        ]
        watch = sorted({*shown, *map(self._relative, ignores)})
        seen, newest = self._seen(watch)
        found = {
            "watch": watch,
            "seen": seen,
            "known": newest < before,
            "folders": shown,
            "files": sorted(map(self._relative, [*files, *links])),
        }
        self._walks[base] = found
        return found

    def _relative(self, path: str) -> str:
        """A path from the workspace's folder."""
        return path[len(self._start) :] if path.startswith(self._start) else os.path.relpath(path, self.root)

    def _seen(self, paths: Iterable[str]) -> tuple[str, int]:
        """One text of the signatures of some paths, and when the newest has changed."""
        found = [signature(self._start + path) for path in paths]
        newest = max((each[3] for each in found if each is not None), default=0)
        return hashlib.sha256(repr(found).encode()).hexdigest(), newest

    # ---- what is in them

    def is_folder(self, path: str) -> bool:
        """Whether a path is a folder, or a link to one; asked once until `begin`."""
        found = self._are_folders.get(path)
        if found is None:
            found = self._are_folders[path] = os.path.isdir(self._start + path)
        return found

    def digest(self, path: str) -> str | None:
        """What a file is: the digest of its contents, and whether it can be executed; None, if it is not there.

        Of a link it is what it says, and that of the file that it leads to.
        """
        full = self._start + path
        found = signature(full)
        if found is None:
            return None
        mode = found[4]
        if stat.S_ISLNK(mode):
            return self._of_link(full)
        if not stat.S_ISREG(mode):
            return "folder" if stat.S_ISDIR(mode) else "special"
        known = self._used.get(path) or self._digests.get(path)
        if known is not None and known[:-1] == list(found):
            self._used[path] = known
            return str(known[-1])
        try:
            digest = digest_of_file(full) + ("+x" if mode & 0o111 else "")
        except OSError as error:
            return f"unreadable: {error.errno}"
        self._learn(path, found, digest)
        return digest

    def _learn(self, path: str, found: Signature, digest: str) -> None:
        if found[3] < self._clock:
            self._used[path] = [*found, digest]
        else:
            self._used.pop(path, None)
            self._digests.pop(path, None)

    def _of_link(self, full: str) -> str:
        with contextlib.suppress(OSError):
            said, real = os.readlink(full), os.path.realpath(full)
            led = "folder" if os.path.isdir(real) else digest_of_file(real)
            return f"link {hashlib.sha256(os.fsencode(said)).hexdigest()} {led}"
        return "link to nothing"

    def settled(self, path: str) -> bool:
        """Whether a path's signature alone tells of any change from now on."""
        found = signature(self._start + path)
        return found is None or (found[3] < self._clock and not stat.S_ISLNK(found[4]))


class _Walker:
    """`loop:fsx`, driven from plain code."""

    def __init__(self, root: str) -> None:
        import asyncio
        from pathlib import Path

        from loop_kit.dev._files import Files

        self._runner = asyncio.Runner()
        self._files = Files(Path(root))
        # not the runner's own `run`, in which an interrupt may be lost to whoever is just done
        self._run = self._runner.get_loop().run_until_complete
        self._run(self._files.__aenter__())

    def walk(self, folder: str) -> tuple[list[str], list[str], list[str]]:
        found = self._run(self._files.walk(folder))
        return found.folders, found.files, found.links

    def ignores(self, folder: str) -> list[str]:
        """The `.gitignore` files above a folder that count, whether they are there or not."""
        top, found = str(self._files.top), []
        at = folder
        while at != top and at.startswith(f"{top}/"):
            at = os.path.dirname(at)
            found.append(os.path.join(at, ".gitignore"))
        return found

    def close(self) -> None:
        self._run(self._files.__aexit__())
        self._runner.close()
