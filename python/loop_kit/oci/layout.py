"""OCI image layouts: folders with blobs by digest, and an `index.json` that names some of them."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loop_kit.errors import Damaged, PackageError
from loop_kit.oci import media_types
from loop_kit.oci._json import MOST_BYTES, canonical
from loop_kit.oci.blobs import Blobs, is_digest
from loop_kit.oci.model import Descriptor, Index, Manifest, check_layout, parse
from loop_kit.oci.reference import is_tag
from loop_kit.oci.wasm import parse_config

__all__ = ["REF_NAME", "Fault", "Layout", "check", "name_of"]

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation by which `index.json` names what it lists."""

_MARK = "oci-layout"
_INDEX = "index.json"
_LOCK = ".lock"
_MOST_DOCUMENTS = 100_000
"""Documents that a check reads."""
_DEEPEST = 8
"""Indexes within each other that a check follows."""


def name_of(descriptor: Descriptor) -> str | None:
    """The tag by which a layout lists it."""
    return descriptor.annotations.get(REF_NAME)


class Layout:
    """A layout on disk, which any number of processes may use at once.

    Args:
        folder: Its folder. `create` makes what is missing.

    Attributes:
        blobs: What is in it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.blobs = Blobs(self.folder)

    def create(self) -> Layout:
        """Makes the folder a layout, unless it is one; returns itself.

        Raises:
            PackageError: It is a folder with other things in it.
            OSError: It cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not (self.folder / _MARK).exists():
                others = sorted(set(os.listdir(self.folder)) - {_LOCK, ".partial", "blobs"})
                if others:
                    raise PackageError(
                        f"{self.folder} is not empty, and no OCI layout: it has {others[0]!r} in it"
                    )
                self._write(_MARK, canonical({"imageLayoutVersion": "1.0.0"}))
            if not (self.folder / _INDEX).exists():
                self._write(_INDEX, Index().to_bytes())
        return self

    def index(self) -> Index:
        """What it lists.

        Raises:
            PackageError: It is no layout, or its index is malformed.
        """
        if not self.folder.is_dir():
            raise PackageError(f"there is no folder {self.folder}")
        check_layout(self._document(_MARK), what=os.fspath(self.folder / _MARK))
        what = os.fspath(self.folder / _INDEX)
        index = parse(self._document(_INDEX), media_types.INDEX, what=what)
        assert isinstance(index, Index)
        return index

    def _document(self, name: str) -> bytes:
        path = self.folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise PackageError(f"{path} is no file")
            with path.open("rb") as file:
                return file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            error = PackageError(f"{self.folder} is no OCI layout: it has no {name}")
            error.hint = "`loop copy REGISTRY/REPOSITORY:TAG oci-layout:DIR` makes one"
            raise error from None

    def add(self, name: str | None, descriptor: Descriptor) -> None:
        """Lists something that is in `blobs`, under a name that then stands for nothing else.

        What is about something that is listed no more by that, such as its signatures, is listed no more either.

        Raises:
            PackageError: The name cannot be a tag, or this is no layout.
        """
        if name is not None and not is_tag(name):
            raise PackageError(f"{name!r} is not a tag: up to 128 letters, digits, _, . and -")
        annotations = {key: value for key, value in descriptor.annotations.items() if key != REF_NAME}
        if name is not None:
            annotations[REF_NAME] = name
        added = dataclasses.replace(descriptor, annotations=annotations)
        with self._locked():
            index = self.index()
            kept = [each for each in index.manifests if name is None or name_of(each) != name]
            if name is not None or all(each.digest != added.digest for each in kept):
                kept.append(added)
            if gone := {each.digest for each in index.manifests} - {each.digest for each in kept}:
                kept = self._without(kept, gone)
            self._write(_INDEX, dataclasses.replace(index, manifests=tuple(kept)).to_bytes())

    def _without(self, listed: list[Descriptor], gone: set[str]) -> list[Descriptor]:
        """Those that have a name, or are not about what is gone."""
        about: dict[str, list[str]] = {}
        for each in listed:
            with contextlib.suppress(PackageError):  # what is malformed is about nothing
                document = self._parsed(each)
                if isinstance(document, Index):
                    gone -= {part.digest for part in document.manifests}
                if document is not None and document.subject is not None and name_of(each) is None:
                    about.setdefault(document.subject.digest, []).append(each.digest)
        dropped: set[str] = set()
        while gone:
            gone = {digest for subject in gone for digest in about.pop(subject, ())}
            dropped |= gone
        return [each for each in listed if each.digest not in dropped]

    def _parsed(self, listed: Descriptor) -> Manifest | Index | None:
        """A document that is listed; None, if it is not here, or is none."""
        known = listed.media_type in media_types.MANIFESTS | media_types.INDEXES
        if not known or self.blobs.size(listed.digest) is None:
            return None
        return parse(self.blobs.read(listed.digest, most=MOST_BYTES), listed.media_type)

    def resolve(self, name: str | None = None) -> Descriptor:
        """What a tag or a digest stands for; without either, the only thing that has a tag, or that is listed at all.

        Raises:
            PackageError: There is none of that name, or more than one.
        """
        listed = self.index().manifests
        if name is None:
            found = [each for each in listed if name_of(each) is not None] or list(listed)
        elif is_digest(name):
            found = [each for each in listed if each.digest == name]
        else:
            found = [each for each in listed if name_of(each) == name]
        digests = {each.digest for each in found}
        if len(digests) == 1:
            return found[0]
        names = ", ".join(sorted({tag for each in listed if (tag := name_of(each))})) or "no tags"
        if not digests:
            raise PackageError(f"{self.folder} does not list {name or 'anything'}; it has {names}")
        error = PackageError(
            f"{self.folder} lists {len(digests)} artifacts" + (f" as {name}" if name else "")
        )
        error.hint = f"name one of them: {names}"
        raise error

    def referrers(self, digest: str) -> list[Descriptor]:
        """The manifests among those that are listed whose subject is `digest`: its signatures and the like.

        Raises:
            PackageError: Something that is listed is malformed.
        """
        found: dict[str, Descriptor] = {}
        for listed in self.index().manifests:
            document = self._parsed(listed) if listed.media_type in media_types.MANIFESTS else None
            if isinstance(document, Manifest) and document.subject and document.subject.digest == digest:
                found[listed.digest] = dataclasses.replace(listed, artifact_type=document.kind)
        return list(found.values())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.folder / _LOCK, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, name: str, data: bytes) -> None:
        """Replaces a file by one that is written in full."""
        if len(data) > MOST_BYTES:
            raise PackageError(f"{self.folder / name} would have more than {MOST_BYTES} bytes")
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".", delete=False) as file:
            try:
                os.fchmod(file.fileno(), 0o644)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, self.folder / name)
            except BaseException:
                os.unlink(file.name)
                raise


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one part of a layout.

    Attributes:
        kind: `missing`, `wrong-bytes`, `wrong-size`, `wrong-media-type`, `malformed`, `unsupported` (a digest that is
            not checked, or too much of something) or `ambiguous` (a tag that stands for two artifacts).
        part: What it is: `layout`, `index`, `manifest`, `config`, `layer` or `blob`.
        digest: The part's, as its descriptor says; None where it has none.
        where: How it is reached from `index.json`.
        message: All of this, and what is wrong, in one line.
    """

    kind: str
    part: str
    digest: str | None
    where: str
    message: str

    def __str__(self) -> str:
        return self.message


def check(folder: str | os.PathLike[str], tell: Callable[[int], object] | None = None) -> list[Fault]:
    """Judges every document and blob that is reachable from a layout's `index.json`.

    Args:
        folder: The layout's.
        tell: Called with the bytes of each blob that was read.

    Returns:
        What is wrong, each fault by itself, in the order of the documents; nothing where all is as it should be.

    Raises:
        PackageError: There is no such folder.
        OSError: Something in it cannot be read.
    """
    if not Path(folder).is_dir():
        raise PackageError(f"there is no folder {os.fspath(folder)}")
    return _Check(Layout(folder), tell or (lambda _: None)).run()


class _Check:
    def __init__(self, layout: Layout, tell: Callable[[int], object]) -> None:
        self._layout = layout
        self._blobs = layout.blobs
        self._tell = tell
        self._faults: list[Fault] = []
        self._judged: dict[tuple[str, int], bool] = {}
        """Of blobs by digest and size: whether all is well with them."""
        self._walked: set[tuple[str, str]] = set()
        self._read: dict[str, str | None] = {}
        """Of digests whose bytes were read: what they are instead, or None."""

    def run(self) -> list[Fault]:
        for name, part in ((_MARK, "layout"), (_INDEX, "index")):
            self._own(name, part)
        if not self._faults:
            index = self._layout.index()
            self._names(index)
            self._listed(index, _INDEX, 1)
        return self._faults

    def _fault(self, kind: str, part: str, descriptor: Descriptor | None, where: str, what: str) -> None:
        digest = descriptor.digest if descriptor is not None else None
        named = f"{part} {digest}" if digest is not None else part
        self._faults.append(Fault(kind, part, digest, where, f"{where}: {named}: {what}"))

    def _own(self, name: str, part: str) -> None:
        """A file that has no digest."""
        path = self._layout.folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                self._fault("malformed", part, None, name, "it is no file")
                return
        except FileNotFoundError:
            self._fault("missing", part, None, name, "there is no such file")
            return
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        try:
            if name == _MARK:
                check_layout(data, what=name)
            else:
                parse(data, media_types.INDEX, what=name)
        except PackageError as error:
            self._fault(_kind_of(data, media_types.INDEX), part, None, name, str(error))

    def _names(self, index: Index) -> None:
        named: dict[str, str] = {}
        for descriptor in index.manifests:
            name = name_of(descriptor)
            if name is not None and named.setdefault(name, descriptor.digest) != descriptor.digest:
                self._fault("ambiguous", "index", None, _INDEX, f"the tag {name} stands for two artifacts")

    def _listed(self, index: Index, where: str, deep: int) -> None:
        for number, descriptor in enumerate(index.manifests):
            self._document(descriptor, f"{where} $.manifests[{number}]", deep)

    def _document(self, descriptor: Descriptor, where: str, deep: int) -> None:
        """A manifest or index, and all that it leads to; or a blob that is neither."""
        if descriptor.media_type not in media_types.MANIFESTS | media_types.INDEXES:
            self._blob(descriptor, "blob", where)
            return
        part = "manifest" if descriptor.media_type in media_types.MANIFESTS else "index"
        if not self._blob(descriptor, part, where):
            return
        if (key := (descriptor.digest, descriptor.media_type)) in self._walked:
            return
        self._walked.add(key)
        if deep > _DEEPEST or len(self._walked) > _MOST_DOCUMENTS:
            self._fault(
                "unsupported", part, descriptor, where, "there is too much within each other to check"
            )
            return
        if descriptor.size > MOST_BYTES:
            self._fault("malformed", part, descriptor, where, f"it has more than {MOST_BYTES} bytes")
            return
        data = self._blobs.read(descriptor.digest, most=MOST_BYTES)
        try:
            document = parse(data, descriptor.media_type, what=part)
        except PackageError as error:
            self._fault(_kind_of(data, descriptor.media_type), part, descriptor, where, str(error))
            return
        below = f"{where} {descriptor.digest[:19]}…"
        if isinstance(document, Index):
            self._listed(document, below, deep + 1)
        else:
            self._manifest(document, below)

    def _manifest(self, manifest: Manifest, where: str) -> None:
        config = manifest.config
        if self._blob(config, "config", f"{where} $.config"):
            self._config(manifest, f"{where} $.config")
        for number, layer in enumerate(manifest.layers):
            self._blob(layer, "layer", f"{where} $.layers[{number}]")

    def _config(self, manifest: Manifest, where: str) -> None:
        config = manifest.config
        try:
            if config.media_type == media_types.WASM_CONFIG:
                parse_config(self._blobs.read(config.digest, most=MOST_BYTES), manifest, what="the config")
        except PackageError as error:
            self._fault("malformed", "config", config, where, str(error))

    def _blob(self, descriptor: Descriptor, part: str, where: str) -> bool:
        """Whether its bytes are what its descriptor says; a fault is told once."""
        key = (descriptor.digest, descriptor.size)
        if key not in self._judged:
            self._judged[key] = self._judge(descriptor, part, where)
        return self._judged[key]

    def _judge(self, descriptor: Descriptor, part: str, where: str) -> bool:
        if not is_digest(descriptor.digest):
            self._fault(
                "unsupported", part, descriptor, where, "its digest is of an algorithm that is not checked"
            )
            return False
        path = self._blobs.path(descriptor.digest)
        try:
            found = path.stat()
        except FileNotFoundError:
            self._fault("missing", part, descriptor, where, "there is no such blob")
            return False
        if not stat.S_ISREG(found.st_mode):
            self._fault("malformed", part, descriptor, where, f"{path} is no file")
            return False
        if descriptor.digest not in self._read:
            self._read[descriptor.digest] = self._compare(descriptor.digest, found.st_size)
        other = self._read[descriptor.digest]
        if found.st_size != descriptor.size:
            self._fault(
                "wrong-size",
                part,
                descriptor,
                where,
                f"expected {descriptor.size} bytes, found {found.st_size}",
            )
            return False
        if other is not None:
            self._fault("wrong-bytes", part, descriptor, where, f"its bytes are those of {other}")
        return other is None

    def _compare(self, digest: str, size: int) -> str | None:
        try:
            self._blobs.verify(digest)
        except Damaged as error:
            return error.found
        finally:
            self._tell(size)
        return None


def _kind_of(data: bytes, expected: str) -> str:
    """What is wrong with a document that was refused as what it was said to be."""
    try:
        return "malformed" if parse(data).media_type == expected else "wrong-media-type"
    except PackageError:
        return "malformed"
