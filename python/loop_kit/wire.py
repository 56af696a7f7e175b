"""Component values as the bytes that travel between processes.

The encoding is the component model's for value definitions, with wRPC's for handles, streams and futures:

    from loop_kit import wire

    data = wire.encode("list<tuple<string, u32>>", [("a", 1)])
    wire.decode("list<tuple<string, u32>>", data)  # [("a", 1)]

A type is written as in WIT, where a record, variant, enum or flags stands in place: `record { x: u32, y: u32 }`. Values
are those of calls (`docs/values.md`), but for what does not exist outside a component:

- `own<name>` and `borrow<name>` are `Handle`, the bytes that stand for a resource;
- `stream<T>` is the variant `pending`, where its items are sent after it, or `ready` with the list of them;
- `future<T>` is the variant `pending`, or `ready` with its value;
- `error-context` is its message.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from loop_kit import _core
from loop_kit.errors import WireError

__all__ = ["Handle", "WireError", "decode", "encode"]


@dataclass(frozen=True, slots=True)
class Handle:
    """A resource, as the bytes that stand for it.

    Attributes:
        bytes: Up to 64 bytes, chosen by the side that implements the resource.
    """

    bytes: bytes


def encode(wit_type: str, value: Any) -> bytes:
    """Returns the bytes of a value.

    Raises:
        WireError: `wit_type` is no type, or the value does not fit it.
    """
    return _type(wit_type).encode(value)


def decode(wit_type: str, data: Any) -> Any:
    """Returns the value that `data` (bytes, or another buffer of bytes) is.

    Nothing is allocated that the bytes only claim, so they may come from anyone.

    Raises:
        WireError: `wit_type` is no type, or the bytes are not one value of it.
        TypeError: `data` is no buffer of bytes.
    """
    return _type(wit_type).decode(data)


@functools.lru_cache(maxsize=256)
def _type(text: str) -> _core.WireType:
    # kept, so that a record's class is the same each time
    return _core.WireType(text, Handle)
