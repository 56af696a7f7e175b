"""Fetches the signatures of an artifact, from wherever that is: the one way in which they come."""

from __future__ import annotations

from loop_kit.errors import PackageError
from loop_kit.oci import media_types
from loop_kit.oci._places import Place, bring
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Manifest, parse
from loop_kit.trust import _json
from loop_kit.trust._artifact import MOST_MANIFEST
from loop_kit.trust._verify import MOST_BUNDLES
from loop_kit.trust.bundle import MEDIA_TYPE

__all__ = ["fetch"]

_MOST_PARTS = 8


async def fetch(place: Place, root: Descriptor, blobs: Blobs) -> list[Descriptor]:
    """Fetches the signatures of an artifact, and returns their manifests' descriptors.

    Args:
        place: Where the artifact is.
        root: Its root.
        blobs: Where they are put.

    Raises:
        Damaged: One is not what its digest says.
        PackageError: Nobody can be asked, or there is what is too much, or too long, for signatures.
    """
    listed = [each for each in await place.referrers(root.digest) if each.artifact_type == MEDIA_TYPE]
    if len(listed) > MOST_BUNDLES:
        raise PackageError(f"{root.digest} has more than {MOST_BUNDLES} signatures")
    found = []
    for each in listed:
        if each.size > MOST_MANIFEST or each.media_type not in media_types.MANIFESTS:
            raise PackageError(f"{each.digest}, which refers to {root.digest}, is no manifest of a signature")
        try:
            await bring(place, blobs, each, document=True)
        except PackageError as error:
            raise error.within("the manifest of a signature") from None
        what = f"the manifest of a signature, {each.digest}"
        manifest = parse(blobs.read(each.digest, most=MOST_MANIFEST), each.media_type, what=what)
        if not isinstance(manifest, Manifest) or manifest.kind != MEDIA_TYPE:
            continue
        if len(manifest.parts) > _MOST_PARTS:
            raise PackageError(f"{what}, has more than {_MOST_PARTS} parts")
        for part in manifest.parts:
            if part.size > _json.MOST:
                raise PackageError(f"{part.digest}, of {part.size} bytes, is too long for a signature")
            try:
                await bring(place, blobs, part)
            except PackageError as error:
                raise error.within("a signature") from None
        found.append(Descriptor(manifest.media_type, each.digest, each.size))
    return found
