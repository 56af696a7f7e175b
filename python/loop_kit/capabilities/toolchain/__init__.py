"""`loop:toolchain`: what makes programs of sources, and runs them, by native tools and by components."""

from __future__ import annotations

from loop_kit.capabilities.toolchain._esbuild import Esbuild
from loop_kit.capabilities.toolchain._node import Node

__all__ = ["Esbuild", "Node"]
