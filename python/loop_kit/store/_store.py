"""The store: what was fetched or packed, once for all workspaces of a user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Manifest, describe, parse
from loop_kit.store import _roots, _use
from loop_kit.store._folder import check, default, put, sync, telling
from loop_kit.store._roots import Root
from loop_kit.store._trees import Trees
from loop_kit.store._use import Use

if TYPE_CHECKING:
    from loop_kit.oci.model import Descriptor

__all__ = ["Damage", "Store", "Swept"]

_MOST_REFERRER = 256 << 10
"""Bytes of the manifest of something that is about an artifact."""


@dataclass(frozen=True)
class Damage:
    """Something in the store that is not as it should be.

    Attributes:
        kind: `blob`, `root` or `tree`.
        name: A digest, or a root's name or file.
        why: What is wrong with it.
    """

    kind: Literal["blob", "root", "tree"]
    name: str
    why: str


@dataclass(frozen=True)
class Swept:
    """What was removed, or would be.

    Attributes:
        roots: The names of those that nothing needs any more.
        blobs: Digests and sizes.
        trees: Digests and sizes.
        left: Bytes of what broke off.
    """

    roots: tuple[str, ...]
    blobs: tuple[tuple[str, int], ...]
    trees: tuple[tuple[str, int], ...]
    left: int

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum(size for _, size in (*self.blobs, *self.trees)) + self.left


class Store:
    """A store, which any number of processes may use at once; whichever of them is killed, what is there is whole.

    Args:
        folder: Where it is; by default in the user's data folder, `$XDG_DATA_HOME/loop-kit/store`. It is made when
            something is put into it.

    Raises:
        PackageError: The folder is a link, or not the user's alone.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder).absolute() if folder is not None else default()
        if check(self.folder):
            for name in (
                "blobs",
                "blobs/sha256",
                "blobs/sha512",
                ".partial",
                _roots.ROOTS,
                _use.USERS,
                "trees",
            ):
                check(self.folder / name)
        self.trees = Trees(self.folder)

    @contextlib.contextmanager
    def use(self) -> Iterator[Use]:
        """Has what is read, or fetched, stay meanwhile; what comes later is kept by `pin`.

        Raises:
            PackageError: The store cannot be used; also in the place of OSError from within.
        """
        with telling(self.folder), contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # what cannot be written may well be read
                _use.ensure(self.folder)
            yield stack.enter_context(Use(self.folder))

    def pin(
        self,
        name: str,
        root: Descriptor,
        digests: Iterable[str],
        *,
        size: int = 0,
        lock: Path | None = None,
        subject: str | None = None,
    ) -> None:
        """Has an artifact stay, in the place of what was pinned by that name.

        Args:
            name: Whose it is.
            root: The artifact.
            digests: All that belongs to it.
            size: Bytes of all that.
            lock: The `loop.lock` that names it; it stays as long as that does.
            subject: The artifact that it is about, as a signature is; it stays as long as that does.

        Raises:
            PackageError: Something of it is not there, or that cannot be written down.
        """
        made = Root(
            name, root.digest, root.media_type, size or root.size, (root.digest, *digests), lock, subject
        )
        blobs = Blobs(self.folder)
        with telling(self.folder), _use.shared(self.folder):
            for digest in made.digests:
                if blobs.size(digest) is None:
                    raise PackageError(f"{name}: {digest} is not in {self.folder}")
            path = _roots.file_of(self.folder, name)
            _use.ensure(path.parent)
            data = made.to_bytes()
            with contextlib.suppress(OSError):
                if path.read_bytes() == data:
                    return
            put(path, data)

    def pinned(self, name: str) -> Root | None:
        """The root of a name; None, if there is none, or it is damaged and must be pinned anew."""
        try:
            return _roots.read(_roots.file_of(self.folder, name))
        except (PackageError, OSError):
            return None

    def refer(self, subject: Descriptor, referrer: Descriptor, digests: Iterable[str]) -> None:
        """Has something stay that is about an artifact, such as a signature, as long as that does.

        Args:
            subject: The artifact.
            referrer: The manifest of what is about it.
            digests: All that belongs to that.

        Raises:
            PackageError: Something of it is not there, or that cannot be written down.
        """
        self.pin(f"{referrer.digest} of {subject.digest}", referrer, digests, subject=subject.digest)

    def referrers(self, digest: str) -> list[Descriptor]:
        """What is kept here that is about an artifact: manifests whose subject it is, with their artifacts' types.

        Raises:
            Damaged: One is not what its digest says.
            PackageError: A root is damaged.
        """
        blobs = Blobs(self.folder)
        asked: dict[str, None] = {}
        for root in self.roots() if self.folder.is_dir() else ():
            if root.subject == digest:
                asked[root.digest] = None
            elif root.digest == digest:  # signatures that came with it
                asked |= dict.fromkeys(each for each in root.digests if each != digest)
        found = []
        for each in asked:
            size = blobs.size(each)
            if size is None or size > _MOST_REFERRER:
                continue
            data = blobs.read(each, most=_MOST_REFERRER)
            with contextlib.suppress(PackageError):  # it is a blob
                document = parse(data, what=each)
                if isinstance(document, Manifest) and document.subject and document.subject.digest == digest:
                    found.append(describe(document, data, artifact_type=document.kind))
        return found

    def named(self, name: str) -> Root | None:
        """What is here by a name: a root's own, `WORKSPACE/NAME` or NAME of what was packed, or a digest.

        None also where NAME is that of several things.
        """
        roots = {root.name: root for root in self.roots()} if self.folder.is_dir() else {}
        found = roots.get(name) or roots.get(f"{_roots.PACKED}{name}")
        if found is None:
            alike = [r for r in roots.values() if name == r.digest or r.name.rpartition("/")[2] == name]
            found = alike[0] if len({root.digest for root in alike}) == 1 else None
        return found

    def roots(self) -> list[Root]:
        """All roots, by their names.

        Raises:
            PackageError: One is damaged.
        """
        with telling(self.folder):
            return sorted(map(_roots.read, _roots.roots(self.folder)), key=lambda root: root.name)

    def gc(
        self,
        *,
        dry_run: bool = False,
        forget: Iterable[str] = (),
        tell: Callable[[str], object] = lambda text: None,
    ) -> Swept:
        """Removes what neither a root nor a living user needs.

        Args:
            dry_run: Only say what would be removed.
            forget: Names of roots that are given up.
            tell: Told, in words, what is waited for.

        Raises:
            PackageError: A root is damaged: what it needs is not known, and nothing is removed. Or there is none of
                a name, or something cannot be removed.
        """
        given_up = set(forget)
        if not check(self.folder):
            if given_up:
                raise _unknown(sorted(given_up)[0])
            return Swept((), (), (), 0)
        with telling(self.folder), _use.alone(self.folder, tell):
            known = self.roots()
            if missing := sorted(given_up - {root.name for root in known}):
                raise _unknown(missing[0])
            kept = _roots.kept(root for root in known if root.name not in given_up)
            dropped = [root for root in known if root not in kept]
            needed = {digest for root in kept for digest in root.digests}
            needed |= _use.held(self.folder, tidy=not dry_run)
            blobs = Blobs(self.folder)
            unneeded = [(digest, blobs.size(digest) or 0) for digest in blobs if digest not in needed]
            trees = [(digest, self.trees.size(digest)) for digest in self.trees if digest not in needed]
            left = self.trees.left()
            size = sum(_size(path) for path in left)
            if dry_run:
                size += sum(_size(entry) for entry in _entries(self.folder / ".partial"))
            else:
                for root in dropped:
                    _roots.file_of(self.folder, root.name).unlink(missing_ok=True)
                if dropped:
                    sync(self.folder / _roots.ROOTS)
                for digest, _ in trees:
                    self.trees.remove(digest)
                for path in left:
                    self.trees.clear(path)
                for digest, _ in unneeded:
                    blobs.remove(digest)
                size += blobs.sweep()
            return Swept(tuple(root.name for root in dropped), tuple(unneeded), tuple(trees), size)

    def verify(self, tell: Callable[[int, int], object] = lambda done, of: None) -> list[Damage]:
        """Reads all that is there, and says what is not as it should be.

        Args:
            tell: Told how many blobs and trees were read, of how many.

        Raises:
            PackageError: The store cannot be read.
        """
        if not check(self.folder):
            return []
        found: list[Damage] = []
        with telling(self.folder), _use.shared(self.folder):
            blobs = Blobs(self.folder)
            listed, trees = list(blobs), list(self.trees)
            of = len(listed) + len(trees)
            for done, digest in enumerate(listed):
                tell(done, of)
                try:
                    blobs.verify(digest)
                except Damaged as error:
                    found.append(Damage("blob", digest, f"it is {error.found}"))
                except OSError as error:
                    found.append(Damage("blob", digest, f"it cannot be read: {error.strerror or error}"))
            for done, digest in enumerate(trees, len(listed)):
                tell(done, of)
                try:
                    self.trees.check(digest)
                except PackageError as error:
                    found.append(Damage("tree", digest, str(error)))
            found += self._roots_damaged(blobs)
            tell(of, of)
        return found

    def _roots_damaged(self, blobs: Blobs) -> Iterator[Damage]:
        for path in _roots.roots(self.folder):
            try:
                root = _roots.read(path)
            except PackageError as error:
                yield Damage("root", path.name, str(error))
            except OSError as error:
                yield Damage("root", path.name, f"it cannot be read: {error.strerror or error}")
            else:
                for digest in root.digests:
                    if blobs.size(digest) is None:  # looked for now: others may just have put it there
                        yield Damage("root", root.name, f"{digest}, which belongs to it, is not there")


def _unknown(name: str) -> PackageError:
    error = PackageError(f"there is no root {name!r}")
    error.hint = "`loop store ls` shows their names"
    return error


def _entries(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []


def _size(path: Path) -> int:
    total = 0
    for at, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(at, name)).st_size
    with contextlib.suppress(OSError):
        if path.is_file():
            total += path.stat().st_size
    return total
