"""What the benchmark calls, in Python.

`python -m loop_kit.serve loop_kit.bench.providers:Bench --on ADDRESS` serves it to a `loop bench --remote`.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any

from loop_kit.capabilities.core import Core
from loop_kit.capabilities.fsx import Files as _Files
from loop_kit.provider import provider

__all__ = ["Bench", "Files", "Log", "Watched"]

_CHUNK = bytes(64 << 10)


@provider("loop:bench/echo@0.1.0", "loop:bench/streams@0.1.0", wit="wit")
class Bench:
    """The whole package `loop:bench`."""

    def small(self, a: int, b: int) -> int:
        """The sum of both, modulo 2^32."""
        return (a + b) & 0xFFFF_FFFF

    def echo(self, data: bytes) -> bytes:
        """What it was given."""
        return data

    def typed(self, value: Any) -> Any:
        """What it was given."""
        return value

    def source(self, size: int) -> Iterator[bytes]:
        """So many bytes."""
        while size > 0:
            yield _CHUNK[:size]
            size -= len(_CHUNK)


class Watched(Bench):
    """The same, in the host's process, where nobody else would tell how long it took."""

    spent: list[int] = []  # noqa: RUF012 - the measurement finds it by the class

    def small(self, a: int, b: int) -> int:
        """As it is there."""
        begun = perf_counter_ns()
        answer = super().small(a, b)
        self.spent.append(perf_counter_ns() - begun)
        return answer

    def echo(self, data: bytes) -> bytes:
        """As it is there."""
        begun = perf_counter_ns()
        answer = super().echo(data)
        self.spent.append(perf_counter_ns() - begun)
        return answer

    def typed(self, value: Any) -> Any:
        """As it is there."""
        begun = perf_counter_ns()
        answer = super().typed(value)
        self.spent.append(perf_counter_ns() - begun)
        return answer


@provider("loop:core/log@0.1.0", wit="../capabilities/core/wit")
class Log(Core):
    """Logs, in a process of its own."""


@provider("loop:fsx/files@0.1.0", wit="../capabilities/fsx/wit")
class Files(_Files):
    """Reads files, in a process of its own."""
