"""`loop:process`: programs of the host that a grant names, and such programs as providers."""

from __future__ import annotations

from loop_kit.capabilities.process._shim import Shim

__all__ = ["Shim"]
