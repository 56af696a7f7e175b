"""Which part of an index is for which machine."""

from __future__ import annotations

import platform as machine
import sys
from collections.abc import Iterable

from loop_kit.errors import PackageError
from loop_kit.oci.model import Descriptor, Index, Platform

__all__ = ["choose", "parse_platform", "this_platform"]

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i686": "386",
    "i386": "386",
    "armv7l": "arm",
    "armv6l": "arm",
}
_VARIANTS = {"armv7l": "v7", "armv6l": "v6"}


def this_platform() -> Platform:
    """That of this machine, in Go's words."""
    name = machine.machine().lower()
    system = "windows" if sys.platform == "win32" else sys.platform
    return Platform(_ARCHITECTURES.get(name, name), system, _VARIANTS.get(name))


def parse_platform(text: str) -> Platform:
    """Reads `OS/ARCHITECTURE[/VARIANT]`.

    Raises:
        PackageError: It is none.
    """
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(part and part.isprintable() and " " not in part for part in parts):
        raise PackageError(f"{text!r} is no platform such as linux/amd64 or linux/arm/v7")
    return Platform(parts[1], parts[0], parts[2] if len(parts) == 3 else None)


def choose(index: Index, wanted: Platform, *, what: str = "the index") -> Descriptor:
    """The manifest of an index that is for a platform.

    One whose variant is not the same serves only where it says none, or none is wanted.

    Raises:
        PackageError: There is none; the text names those that there are.
    """
    fits = [each for each in index.manifests if each.platform is not None and _fits(each.platform, wanted)]
    fits.sort(key=lambda each: each.platform is not None and each.platform.variant != wanted.variant)
    if fits:
        return fits[0]
    error = PackageError(f"{what} has nothing for {wanted}")
    error.hint = f"it has {listed(index.manifests)}"
    raise error


def listed(manifests: Iterable[Descriptor]) -> str:
    """The platforms of manifests, for messages."""
    names = sorted({str(each.platform) for each in manifests if each.platform is not None})
    return ", ".join(names) or "nothing that is for a platform"


def _fits(found: Platform, wanted: Platform) -> bool:
    if (found.os, found.architecture) != (wanted.os, wanted.architecture):
        return False
    return None in (found.variant, wanted.variant) or found.variant == wanted.variant
