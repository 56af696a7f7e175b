"""What `loop pkg` writes into `loop.toml`: one line for each package."""

from __future__ import annotations

import tomllib

from loop_kit.manifest import Manifest, loads
from loop_kit.manifest._scan import scan
from loop_kit.manifest.edit import Addition, added
from loop_kit.pkg._model import Asked

__all__ = ["with_package", "without_package"]


def with_package(manifest: Manifest, asked: Asked) -> Manifest:
    """The manifest with a package, in place of one of the same alias.

    Raises:
        ManifestError: It cannot be written there.
    """
    if asked.alias in manifest.packages:
        manifest = without_package(manifest, asked.alias)
    return added(manifest, [Addition(("packages", asked.alias), str(asked), table=False)])


def without_package(manifest: Manifest, alias: str) -> Manifest:
    """The manifest without a package.

    Raises:
        ManifestError: It is not written in a line of its own.
    """
    text, wanted = manifest.source.text, manifest.source.parse()
    del wanted["packages"][alias]
    spot = scan(text)[("packages", alias)]
    start = text.rfind("\n", 0, spot.key) + 1
    end = text.find("\n", spot.value) + 1 or len(text)
    candidate = text[:start] + text[end:]
    try:
        found = tomllib.loads(candidate)
    except tomllib.TOMLDecodeError:
        found = None
    if (
        found is None
        or found.get("packages", {}) != wanted["packages"]
        or found | {"packages": 0} != wanted | {"packages": 0}
    ):
        raise manifest.error(("packages", alias), "is not a line of its own", "remove it by hand")
    return loads(candidate, manifest.path, shown=manifest.source.shown)
