"""Which key of a manifest an import is matched by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["IMPORT_PATTERN", "ImportName", "Match", "best_match"]

_LABEL = r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*"
# `ns:package/interface@version`; or a plain name, which WIT gives an import that is in no package.
IMPORT_PATTERN = rf"^({_LABEL}|({_LABEL}:)+{_LABEL}(/{_LABEL})*(@[0-9][0-9A-Za-z.+-]*)?)$"


class ImportName(NamedTuple):
    """The parts of an import's name, or of a key; `interface` and `version` may be absent."""

    package: str
    interface: str | None
    version: str | None

    @classmethod
    def parse(cls, name: str) -> ImportName:
        """Splits any text; whether it is a valid name is not this function's business."""
        rest, _, version = name.partition("@")
        package, _, interface = rest.partition("/")
        return cls(package, interface or None, version or None)


class Match(NamedTuple):
    """The key that matched, and how, in words."""

    key: str
    how: str


def best_match(import_name: str, keys: Iterable[str]) -> Match | tuple[str, str] | None:
    """Returns the most specific key that matches; two keys if neither is more specific; None if none does."""
    wanted = ImportName.parse(import_name)
    found: dict[tuple[bool, bool], str] = {}
    for key in keys:
        package, interface, version = ImportName.parse(key)
        if (
            package == wanted.package
            and interface in (None, wanted.interface)
            and version in (None, wanted.version)
        ):
            found[interface is not None, version is not None] = key
    best, second, third, _ = _KINDS
    if best not in found and second in found and third in found:
        return found[second], found[third]
    for kind in _KINDS:
        if kind in found:
            return Match(found[kind], _how(found[kind] == import_name, *kind))
    return None


# From the most specific; the two in the middle do not compare.
_KINDS = ((True, True), (True, False), (False, True), (False, False))


def _how(exact: bool, has_interface: bool, has_version: bool) -> str:
    if exact:
        return "it exactly"
    if has_interface:
        return "its interface, in any version"
    return "its package and version" if has_version else "its package, in any version"
