"""What the component that serves the page is given: its files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

__all__ = ["Site"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(slots=True)
class _File:
    path: str
    content_type: str
    body: bytes


class Site:
    """Provides `loop:devserver-page/site`."""

    def files(self) -> list[_File]:
        """All files of the page, as they are now."""
        folder = resources.files(__package__) / "files"
        return [
            _File(f"/{file.name}", _TYPES[file.name.rpartition(".")[2]], file.read_bytes())
            for file in folder.iterdir()
        ]
