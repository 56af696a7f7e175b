"""`loop:toolchain`: what makes programs of sources, by native tools and by components."""

from __future__ import annotations

from loop_kit.capabilities.toolchain._esbuild import Esbuild

__all__ = ["Esbuild"]
