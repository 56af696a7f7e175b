"""All that belongs to a package."""

from __future__ import annotations

from loop_kit.errors import PackageError
from loop_kit.oci import media_types, model
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Index

__all__ = ["whole"]

_DEEPEST = 4


def whole(blobs: Blobs, descriptor: Descriptor) -> list[Descriptor]:
    """The package itself, its documents, and their blobs, each once.

    Raises:
        PackageError: A document is not there, or malformed.
    """
    found: dict[str, Descriptor] = {}

    def visit(each: Descriptor, deep: int) -> None:
        if each.digest in found:
            return
        found[each.digest] = each
        if each.media_type not in media_types.MANIFESTS | media_types.INDEXES:
            return
        if deep > _DEEPEST:
            raise PackageError(f"{descriptor.digest}: indexes within indexes, more than {_DEEPEST} deep")
        document = model.parse(
            blobs.read(each.digest, most=model.MOST_BYTES), each.media_type, what=each.digest
        )
        for part in document.manifests if isinstance(document, Index) else document.parts:
            visit(part, deep + 1)

    visit(descriptor, 0)
    return list(found.values())
