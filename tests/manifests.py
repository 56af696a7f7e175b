"""Manifests for tests, as if they stood in a folder of their own."""

from pathlib import Path

import pytest

from loop_kit.manifest import Manifest, ManifestError, loads

WS = Path("/team/ws")


def read(text: str) -> Manifest:
    return loads(text, WS / "loop.toml", shown="loop.toml")


def problems(text: str) -> list[str]:
    """Why it is refused, a line each."""
    with pytest.raises(ManifestError) as caught:
        read(text)
    return str(caught.value).splitlines()
