"""Where the time of one call went, from durations that each one clock measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

__all__ = ["SEGMENTS", "Segments", "Spent", "Stamps", "attribute", "middle"]

# When a guest was entered, called, was answered and left, in nanoseconds of its clock.
Stamps = tuple[int, int, int, int]
# What a session tells of a call, in nanoseconds: encoding, from the call to its answer, decoding; and what the provider
# says of it: waiting, decoding, the provider itself, encoding.
Spent = tuple[int, int, int, "tuple[int, int, int, int] | None"]


class Segments(NamedTuple):
    """Nanoseconds of one call; together they are all of it.

    Attributes:
        guest: The component's own work.
        lift_lower: Values into the component and out of it; on the way out they become bytes as they are read.
        encode: The rest of making bytes, at both ends.
        write: The transport, both ways: system calls, copies, wakeups, the network.
        queue: Waiting at the provider until it began.
        provider: The provider itself.
        decode: Bytes into values, at both ends.
    """

    guest: int
    lift_lower: int
    encode: int
    write: int
    queue: int
    provider: int
    decode: int


SEGMENTS = Segments._fields


def attribute(whole: int, stamps: Stamps, spent: Spent | None) -> Segments:
    """Divides the `whole` of a call, in nanoseconds, among its segments.

    Without `spent`, as in the host's own process, everything between call and answer is the provider's. A part that
    claims more than the whole that it lies in, as with clocks of different pace, is cut down to it: no segment is
    negative, and their sum is the whole.
    """
    entered, called, answered, left = stamps
    inside = _within(left - entered, whole)
    imported = _within(answered - called, inside)
    if spent is None:
        return Segments(inside - imported, whole - inside, 0, 0, 0, imported, 0)
    encode, session, decode, theirs = spent
    encode, session, decode = _share(imported, (encode, session, decode))
    queue, their_decode, provider, their_encode = _share(session, theirs or (0, 0, 0, 0))
    return Segments(
        guest=inside - imported,
        lift_lower=whole - inside + imported - encode - session - decode,
        encode=encode + their_encode,
        write=session - queue - their_decode - provider - their_encode,
        queue=queue,
        provider=provider,
        decode=decode + their_decode,
    )


def _within(part: int, whole: int) -> int:
    return max(0, min(part, whole))


def _share(whole: int, parts: Sequence[int]) -> list[int]:
    """`parts` of `whole`, which they do not exceed together."""
    parts = [max(0, part) for part in parts]
    total = sum(parts)
    return parts if total <= whole else [part * whole // total for part in parts]


def middle(calls: Sequence[Segments]) -> Segments:
    """The segments of a usual call: the mean of those between the quartiles, by their wholes.

    Not medians of each segment, which would not add up to any call.
    """
    ordered = sorted(calls, key=sum)
    quarter = len(ordered) // 4
    kept = ordered[quarter : len(ordered) - quarter] or ordered
    return Segments(*(round(sum(column) / len(kept)) for column in zip(*kept, strict=True)))


def whole(calls: Sequence[Segments]) -> float:
    """Nanoseconds of the median call."""
    return median(sum(call) for call in calls)
