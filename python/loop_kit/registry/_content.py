"""What repositories have, in a store's folder.

registry/lock                                            held by the one server of the folder
registry/uploads/…                                       uploads that have not ended
registry/repositories/acme/site/_blobs/sha256/HEX        empty: the repository has this blob
                               /_tags/1.0                the digest that a tag stands for
                               /_referrers/SUBJECT/HEX   the descriptor of a manifest that is about another

A name of a repository has no part that begins with `_`. The bytes are the store's, and each manifest is a root there by
the name `registry:acme/site@sha256:…`, so that all it needs stays. Whatever is killed, a manifest has all its blobs,
and a tag has its manifest: names come last, and go first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci.blobs import Blobs, is_digest
from loop_kit.oci.model import Descriptor
from loop_kit.oci.reference import is_repository, is_tag
from loop_kit.registry._answers import Refused
from loop_kit.registry._bounds import Bounds, Budget
from loop_kit.registry._document import Document
from loop_kit.registry._uploads import Uploads
from loop_kit.store import Root, Store, Use
from loop_kit.store._folder import default as store_folder
from loop_kit.store._folder import put, sync, telling
from loop_kit.store._roots import file_of
from loop_kit.store._use import ensure

__all__ = ["Content", "default"]

_ROOT = "registry:"


def default() -> Path:
    """The folder of the user's registry."""
    return store_folder().parent / "registry"


class Content:
    """What a registry has. All of it blocks; what changes something does so one at a time.

    Args:
        store: Where the bytes are.
        bounds: What clients can make it hold.
        own: Whether nobody else uses the store: what nothing needs is then removed by itself.
        tell: Told, in words, what is wrong with the folder.
    """

    def __init__(
        self,
        store: Store,
        bounds: Bounds | None = None,
        *,
        own: bool = False,
        tell: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.store = store
        self.bounds = bounds or Bounds()
        self.budget = Budget(self.bounds)
        self.blobs = Blobs(store.folder)
        self._own = own
        self._tell = tell
        self._folder = store.folder / "registry"
        self._repositories = self._folder / "repositories"
        self._use: Use | None = None
        self._stack = contextlib.ExitStack()
        self._changing = threading.RLock()
        self.uploads = Uploads(self._folder / "uploads", self.bounds, self.budget)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Serves the folder, alone, and tidies it up first.

        Raises:
            PackageError: Another process serves it, or it cannot be used.
        """
        with telling(self.store.folder):
            for folder in (self.store.folder, self._folder, self._repositories, self._folder / "uploads"):
                ensure(folder)
            with open(self._folder / "lock", "a+b") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    error = PackageError(f"another process serves {self.store.folder} already")
                    error.hint = "stop it first, or serve another folder: --folder DIR"
                    raise error from None
                try:
                    self.tidy()
                    yield
                finally:
                    self._stack.close()
                    self._use = None

    # ---- what is there

    def _at(self, repository: str) -> Path:
        if not is_repository(repository):  # nothing else may become a path
            raise ValueError(f"not a repository: {repository!r}")
        return self._repositories / repository

    def _link(self, repository: str, digest: str) -> Path:
        algorithm, _, name = self.blobs.path(digest).relative_to(self.blobs.folder).as_posix().rpartition("/")
        return self._at(repository) / "_blobs" / algorithm.removeprefix("blobs/") / name

    def repositories(self) -> Iterator[str]:
        """The names of all repositories, sorted."""
        found = []
        for at, folders, _ in os.walk(self._repositories):
            if any(name.startswith("_") for name in folders) and at != str(self._repositories):
                found.append(os.path.relpath(at, self._repositories))
            folders[:] = [name for name in folders if not name.startswith("_")]
        yield from sorted(name for name in found if is_repository(name))

    def has(self, repository: str) -> bool:
        """Whether there is such a repository."""
        at = self._at(repository)
        return any((at / name).is_dir() for name in ("_blobs", "_tags", "_referrers"))

    def blob(self, repository: str, digest: str) -> int | None:
        """Bytes of a blob that a repository has; None, if it has none of that digest."""
        return self.blobs.size(digest) if self._link(repository, digest).exists() else None

    def manifest(self, repository: str, name: str) -> Descriptor | None:
        """What a tag or a digest stands for; None: for nothing."""
        digest: str | None = name if is_digest(name) else self._tagged(repository, name)
        root = self.store.pinned(_root(repository, digest)) if digest is not None else None
        if root is None or root.digest != digest:
            return None
        return Descriptor(root.media_type, root.digest, root.size)

    def whole(self, repository: str, found: Descriptor) -> int:
        """Bytes of a manifest and of all that is in the store of what it names; of an index, its manifests' too."""
        seen: set[str] = set()
        waiting = [found.digest]
        while waiting:
            digest = waiting.pop()
            if digest in seen:
                continue
            seen.add(digest)
            root = self.store.pinned(_root(repository, digest))
            waiting += root.digests if root is not None else ()
        return sum(self.blobs.size(digest) or 0 for digest in seen)

    def _tagged(self, repository: str, tag: str) -> str | None:
        try:
            with self._tag(repository, tag).open(encoding="ascii", errors="replace") as file:
                digest = file.read(256).strip()
        except FileNotFoundError:
            return None
        return digest if is_digest(digest) else None

    def _tag(self, repository: str, tag: str) -> Path:
        if not is_tag(tag):
            raise ValueError(f"not a tag: {tag!r}")
        return self._at(repository) / "_tags" / tag

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository, sorted."""
        return sorted(filter(is_tag, _names(self._at(repository) / "_tags")))

    def referrers(self, repository: str, subject: str, after: str = "") -> Iterator[tuple[str, bytes]]:
        """Digests, sorted, and descriptors of the manifests that are about another, each read when it is asked for."""
        folder = self._about(repository, subject)
        for digest in sorted(name.replace("-", ":", 1) for name in _names(folder)):
            if digest <= after or not is_digest(digest):
                continue
            if file_of(self.store.folder, _root(repository, digest)).exists():
                with contextlib.suppress(FileNotFoundError):
                    yield digest, (folder / digest.replace(":", "-")).read_bytes()

    def _about(self, repository: str, subject: str) -> Path:
        if not is_digest(subject):
            raise ValueError(f"not a digest: {subject!r}")
        return self._at(repository) / "_referrers" / subject.replace(":", "-")

    # ---- what changes

    def _hold(self, digest: str) -> None:
        if self._use is None:
            raise Refused(503, "UNAVAILABLE", "the registry is being closed")
        self._use.hold(digest)

    def add_blob(self, repository: str, digest: str, file: Path) -> None:
        """Takes over a file that was compared with its digest."""
        with self._changing:
            size = file.stat().st_size
            new = self.blobs.size(digest) is None
            self._hold(digest)
            self.blobs.adopt(file, digest)
            if not new:
                self.budget.give(size)
            self._linked(repository, digest)

    def mount(self, repository: str, digest: str, source: str | None) -> bool:
        """Has a repository have a blob of another, of any if None; false, if that has none."""
        with self._changing:
            sources = self.repositories() if source is None else [source]
            if not any(self._link(name, digest).exists() for name in sources):
                return False  # nor is it held: anybody could have anything of the store stay
            self._hold(digest)
            if self.blobs.size(digest) is None:
                return False
            self._linked(repository, digest)
            return True

    def _linked(self, repository: str, digest: str) -> None:
        path = self._link(repository, digest)
        if path.exists():
            os.utime(path)  # it is wanted anew
            return
        self._room(path)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        sync(path.parent)

    def _room(self, path: Path) -> None:
        """Counts a file that is about to be there, and makes the folders that it wants, which count as much."""
        missing = sum(
            1
            for folder in path.relative_to(self._repositories).parents
            if not (self._repositories / folder).exists()
        )
        self.budget.take(entries=1 + missing)
        path.parent.mkdir(parents=True, exist_ok=True)

    def remove_blob(self, repository: str, digest: str) -> bool:
        """Has a repository have a blob no more; false, if it has none of that digest."""
        with self._changing:
            there = self.blob(repository, digest) is not None
            self._unlink(self._link(repository, digest))
            return there

    def _unlink(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            self.budget.give(entries=1)

    def put_manifest(
        self, repository: str, tag: str | None, digest: str, data: bytes, said: Document
    ) -> None:
        """Adds a manifest, and the tag that stands for it from now on.

        Raises:
            Refused: Something that it names is not there, or there is no room.
        """
        with self._changing:
            for part in said.blobs:
                if not is_digest(part) or self.blob(repository, part) is None:
                    raise Refused(
                        404,
                        "MANIFEST_BLOB_UNKNOWN",
                        f"{part}, which the manifest names, is not in {repository}: push it first",
                    )
            for part in said.manifests:
                if not is_digest(part) or self.manifest(repository, part) is None:
                    raise Refused(
                        404,
                        "MANIFEST_BLOB_UNKNOWN",
                        f"{part}, which the index lists, is not a manifest of {repository}: push it first",
                    )
            self._hold(digest)
            if self.blobs.size(digest) is None:
                self.budget.take(len(data))
            else:
                self.blobs.mend(digest)
            with self.blobs.writer(digest, len(data)) as writer:
                if writer is not None:
                    writer.restart()
                    writer.write(data)
            elsewhere = [part for part in said.elsewhere if is_digest(part) and self.blob(repository, part)]
            name = _root(repository, digest)
            if not file_of(self.store.folder, name).exists():
                self.budget.take(entries=1)
            try:
                self.store.pin(
                    name,
                    Descriptor(said.media_type, digest, len(data)),
                    [*said.blobs, *said.manifests, *elsewhere],
                    size=len(data),
                )
            except PackageError as error:  # removed meanwhile by who looks after the store
                raise Refused(404, "MANIFEST_BLOB_UNKNOWN", f"{error}: push it anew") from None
            tags = self._at(repository) / "_tags"
            if not tags.exists():
                self._room(tags)
                tags.mkdir()
            if said.subject is not None and is_digest(said.subject):
                self._entry(
                    self._about(repository, said.subject) / digest.replace(":", "-"),
                    said.descriptor(digest, len(data)),
                )
            if tag is not None:
                self._entry(self._tag(repository, tag), f"{digest}\n".encode())

    def _entry(self, path: Path, data: bytes) -> None:
        if not path.exists():
            self._room(path)
        put(path, data)

    def remove_tag(self, repository: str, tag: str) -> bool:
        """Takes a tag away; false, if there is none."""
        with self._changing:
            there = self._tagged(repository, tag) is not None
            self._unlink(self._tag(repository, tag))
            return there

    def remove_manifest(self, repository: str, digest: str) -> bool:
        """Takes a manifest away, with the tags that stand for it; false, if there is none."""
        with self._changing:
            found = self.manifest(repository, digest)
            if found is None:
                return False
            for tag in self.tags(repository):
                if self._tagged(repository, tag) == digest:
                    self.remove_tag(repository, tag)
            for subject in _names(self._at(repository) / "_referrers"):
                self._unlink(self._at(repository) / "_referrers" / subject / digest.replace(":", "-"))
            self._unlink(file_of(self.store.folder, _root(repository, digest)))
            return True

    def read(self, repository: str, found: Descriptor) -> bytes:
        """The bytes of a manifest, compared with its digest.

        Raises:
            Refused: They are others by now.
        """
        try:
            return self.blobs.read(found.digest, most=self.bounds.manifest)
        except Damaged as error:
            self._tell(f"{repository}: {error}")
            raise Refused(
                500, "MANIFEST_UNVERIFIED", f"{found.digest} is damaged here: push it anew"
            ) from None
        except PackageError:
            raise Refused(404, "MANIFEST_UNKNOWN", f"{found.digest} is not in {repository}") from None

    # ---- looking after it

    def tidy(self, now: float | None = None) -> None:
        """Gives up what has been begun and never ended, and counts anew.

        Raises:
            OSError: The folder cannot be read.
        """
        now = time.time() if now is None else now
        with self._changing:
            try:
                roots = [root for root in self.store.roots() if root.name.startswith(_ROOT)]
            except PackageError as error:  # nobody knows what it needs: everything stays
                self._tell(str(error))
                self.uploads.tidy(now)
                return
            needed = _needed(roots)
            sizes = {root.digest: self.blobs.size(root.digest) or 0 for root in roots}
            entries = len(roots)
            with contextlib.ExitStack() as stack:
                use = stack.enter_context(self.store.use())
                for repository in self.repositories():
                    mine = needed.get(repository, set())
                    for path, digest in self._links(repository):
                        if digest in mine:
                            sizes[digest] = self.blobs.size(digest) or 0
                        elif now - path.stat().st_mtime > self.bounds.orphan_age:
                            path.unlink()
                            continue
                        else:
                            use.hold(digest)
                            sizes[digest] = self.blobs.size(digest) or 0
                        entries += 1
                    entries += len(self.tags(repository))
                    for subject in _names(self._at(repository) / "_referrers"):
                        entries += len(_names(self._at(repository) / "_referrers" / subject))
                self._stack.close()  # the last one's
                self._stack = stack.pop_all()
                self._use = use
            entries += self._folders(needed)
            used, uploads = self.uploads.tidy(now)  # the last: what comes meanwhile is of uploads
            self.budget.set(used + sum(sizes.values()), entries + uploads)
            if self._own:
                try:
                    self.store.gc(tell=self._tell)
                except PackageError as error:
                    self._tell(str(error))

    def _folders(self, needed: Collection[str]) -> int:
        """Removes the folders that nothing is in; how many others there are.

        Args:
            needed: Repositories that have a manifest, which are told of by their tags' folder, whatever is in it.
        """
        count = 0
        for at, _, files in os.walk(self._repositories, topdown=False):
            for name in files:
                if name.startswith("."):  # what was being written when the server was killed
                    os.unlink(os.path.join(at, name))
            repository, _, last = os.path.relpath(at, self._repositories).rpartition("/")
            if last == ".":
                continue
            if last != "_tags" or repository not in needed:
                with contextlib.suppress(OSError):
                    os.rmdir(at)
                    continue
            count += 1
        return count

    def _links(self, repository: str) -> Iterator[tuple[Path, str]]:
        for algorithm in ("sha256", "sha512"):
            folder = self._at(repository) / "_blobs" / algorithm
            for name in _names(folder):
                if is_digest(f"{algorithm}:{name}"):
                    yield folder / name, f"{algorithm}:{name}"


def _root(repository: str, digest: str) -> str:
    return f"{_ROOT}{repository}@{digest}"


def _needed(roots: list[Root]) -> dict[str, set[str]]:
    needed: dict[str, set[str]] = {}
    for root in roots:
        repository = root.name.removeprefix(_ROOT).rpartition("@")[0]
        needed.setdefault(repository, set()).update(root.digests)
    return needed


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
