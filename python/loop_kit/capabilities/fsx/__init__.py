"""`loop:fsx`: read-only files under the roots that a grant names."""

from __future__ import annotations

from loop_kit.capabilities.fsx._dir import Dir
from loop_kit.capabilities.fsx._provider import Files

__all__ = ["Dir", "Files"]
