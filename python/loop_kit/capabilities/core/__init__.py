"""`loop:core`: a log, clocks, randomness and cancellation."""

from __future__ import annotations

from loop_kit.capabilities.core._provider import Core, Token

__all__ = ["Core", "Token"]
