"""What modules of `loop bind` are made of: classes of WIT types, and what stands where WIT and Python differ.

A record, variant, enum or flags of such a module is the class that the host makes of values of that type, so that
`isinstance`, `match` and `==` hold for what a component passes. None of this converts a value.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar, dataclass_transform

from loop_kit import _types
from loop_kit._core import ErrorContext as _ErrorContext
from loop_kit._types import Enum, Flags

__all__ = [
    "Answer",
    "Bytes",
    "Enum",
    "ErrorContext",
    "Flags",
    "Handle",
    "Source",
    "case",
    "record",
    "variant",
]

_T = TypeVar("_T")
_C = TypeVar("_C", bound=type)

Answer: TypeAlias = _T | Coroutine[Any, Any, _T]
"""What a provider's function returns: it may be `def` or `async def`."""

Source: TypeAlias = AsyncIterable[_T] | Iterable[_T]
"""What a stream may be given as."""

Bytes: TypeAlias = bytes | bytearray | memoryview | Iterable[int]
"""What a `list<u8>` may be given as."""

ErrorContext: TypeAlias = _ErrorContext | str
"""An `error-context`: between peers its message, else an object that says nothing."""


class Handle(Protocol):
    """A resource that somebody else defines, as its user sees it."""

    def close(self) -> None:
        """Drops it. Again is harmless."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


@dataclass_transform()
def record(name: str) -> Callable[[_C], _C]:
    """Makes a class the dataclass of the WIT record `name`, whose fields are its annotations."""

    def made(cls: _C) -> _C:
        found: Any = _types.record_class(_types.pascal(name), list(inspect.get_annotations(cls)))
        found.__doc__ = cls.__doc__ or found.__doc__
        return found  # type: ignore[no-any-return]

    return made


@dataclass_transform(frozen_default=True)
def case(cls: _C) -> _C:
    """Marks a class within one that `variant` decorates as a case: `case` is its WIT name, `value` what it carries."""
    return cls


def variant(name: str) -> Callable[[_C], _C]:
    """Makes a class the namespace of the cases of the WIT variant `name`."""

    def made(cls: _C) -> _C:
        cases = [found for found in vars(cls).values() if isinstance(found, type)]
        payloads = ["value" in inspect.get_annotations(found) for found in cases]
        base: Any
        base, classes = _types.variant(name, [found.case for found in cases], payloads)  # type: ignore[attr-defined]
        base.__doc__ = cls.__doc__ or base.__doc__
        for ours, theirs in zip(cases, classes, strict=True):
            theirs.__doc__ = ours.__doc__ or theirs.__doc__
            setattr(
                base, ours.__name__, theirs
            )  # where two have one name in Python, one of them has another here
        return base  # type: ignore[no-any-return]

    return made
