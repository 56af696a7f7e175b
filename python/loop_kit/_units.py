"""Sizes and durations as people write them: `64MiB`, `1GB`, `250ms`, `2s`."""

from __future__ import annotations

import math
import re

__all__ = ["DURATION_PATTERN", "MAX_DURATION", "MAX_SIZE", "SIZE_PATTERN", "parse_duration", "parse_size"]

# What a JSON number and a float hold exactly, so that no tool in between rounds a limit.
MAX_SIZE = 2**53
MAX_DURATION = 1_000_000_000.0

_BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# Shared with the JSON Schema, hence ECMA 262 syntax; the lookahead keeps out zero.
SIZE_PATTERN = rf"^(?=[0-9]*[1-9])[0-9]{{1,16}} ?({'|'.join(_BYTES)})$"
DURATION_PATTERN = rf"^(?=[0-9.]*[1-9])[0-9]{{1,10}}(\.[0-9]{{1,9}})? ?({'|'.join(_SECONDS)})$"


def parse_size(value: int | str) -> int:
    """Returns bytes for `67108864`, `"64MiB"` or `"1GB"`.

    Raises:
        ValueError: Not a size, zero or less, or more than 2**53 bytes.
    """
    if isinstance(value, str):
        if not re.fullmatch(SIZE_PATTERN, value):
            raise ValueError(f'expected a size such as "64MiB" or a number of bytes, got {value[:40]!r}')
        digits, unit = _split(value)
        size = int(digits) * _BYTES[unit]
    else:
        size = value
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"a size must be from 1 to {MAX_SIZE} bytes")
    return size


def parse_duration(value: float | str) -> float:
    """Returns seconds for `2`, `0.25`, `"250ms"`, `"2s"` or `"1.5h"`.

    Raises:
        ValueError: Not a duration, zero or less, not finite, or more than 10**9 seconds.
    """
    if isinstance(value, str):
        if not re.fullmatch(DURATION_PATTERN, value):
            raise ValueError(
                f'expected a duration such as "250ms" or a number of seconds, got {value[:40]!r}'
            )
        digits, unit = _split(value)
        seconds = float(digits) * _SECONDS[unit]
    elif isinstance(value, int) and abs(value) > MAX_DURATION:
        seconds = math.inf  # float() of a huge int raises OverflowError
    else:
        seconds = float(value)
    if not 0 < seconds <= MAX_DURATION:
        raise ValueError(f"a duration must be above 0 and at most {MAX_DURATION:.0f} seconds")
    return seconds


def _split(value: str) -> tuple[str, str]:
    unit = value.lstrip("0123456789. ")
    return value.removesuffix(unit).rstrip(), unit
