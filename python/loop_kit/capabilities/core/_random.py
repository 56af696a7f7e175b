"""Numbers that look random: fast ones, and those of a seed."""

from __future__ import annotations

from typing import ClassVar

from loop_kit.capabilities.core._quota import Quota

__all__ = ["Generator", "Xoshiro"]

_MASK = (1 << 64) - 1


class Xoshiro:
    """xoshiro256++ 1.0 by Blackman and Vigna; the state is what SplitMix64 makes of the seed."""

    def __init__(self, seed: int) -> None:
        self._state = []
        for _ in range(4):
            seed = (seed + 0x9E3779B97F4A7C15) & _MASK
            z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
            self._state.append(z ^ (z >> 31))

    def u64(self) -> int:
        """The next number."""
        a, b, c, d = self._state
        made = (_rotated((a + d) & _MASK, 23) + a) & _MASK
        shifted = (b << 17) & _MASK
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        self._state = [a, b, c ^ shifted, _rotated(d, 45)]
        return made

    def bytes(self, length: int) -> bytes:
        """Those of the next numbers, the least significant first."""
        numbers = (self.u64().to_bytes(8, "little") for _ in range((length + 7) // 8))
        return b"".join(numbers)[:length]


def _rotated(number: int, by: int) -> int:
    return ((number << by) | (number >> (64 - by))) & _MASK


class Generator:
    """Numbers that follow from a seed."""

    quota: ClassVar[Quota] = Quota("generator", "random.max", 1024)
    payload: ClassVar[int] = 1 << 28

    def __init__(self, seed: int) -> None:
        self._held = self.quota.take()
        self._numbers = Xoshiro(seed)

    def next_u64(self) -> int:
        """The next number."""
        return self._numbers.u64()

    def next_fraction(self) -> float:
        """The next number's upper 53 bits as a fraction."""
        return (self._numbers.u64() >> 11) / (1 << 53)

    def next_bytes(self, length: int) -> bytes:
        """Bytes of the next numbers.

        Raises:
            ValueError: More than the component's payload limit.
        """
        check_length(length, self.payload)
        return self._numbers.bytes(length)


def check_length(length: int, payload: int) -> None:
    """Refuses more bytes than an answer may have.

    Raises:
        ValueError: It is more.
    """
    if length > payload:
        raise ValueError(f"{length} random bytes asked for, the payload limit is {payload}")
