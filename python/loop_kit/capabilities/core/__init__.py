"""`loop:core`: a log, clocks, randomness and cancellation."""

from __future__ import annotations

from loop_kit.capabilities.core._cancel import Token
from loop_kit.capabilities.core._provider import Core

__all__ = ["Core", "Token"]
