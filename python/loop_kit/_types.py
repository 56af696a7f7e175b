"""Python classes of WIT types, as componentize-py maps them, so that guests and hosts feel the same.

The compiled core calls `record`, `variant`, `enumeration` and `flags` when it first meets a value of a named type.
"""

from __future__ import annotations

import enum
import keyword
from array import array
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Generic, TypeVar

from loop_kit._core import Ok

__all__ = ["Err", "Numbers", "Ok", "Some", "constant", "pascal", "snake"]

T = TypeVar("T")

# What the classes say they come from; they are made at run time, so they cannot be pickled by name.
MODULE = "loop_kit.types"


@dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """A present value where options nest: `option<option<u32>>` is None, Some(None) or Some(7)."""

    value: T


class Err(Exception, Generic[T]):
    """The error case of a `result`.

    A provider raises it to return an error; a call whose function returns an error raises it. Inside other values
    it stands beside `Ok`.

    Attributes:
        value: The error's payload, or None.
    """

    __match_args__ = ("value",)

    def __init__(self, value: T | None = None) -> None:
        super().__init__(*(() if value is None else (value,)))
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Err) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((Err, self.value))

    def __repr__(self) -> str:
        return f"Err({self.value!r})"


class Numbers(array):  # type: ignore[type-arg]
    """A list of numbers in one block of memory: an `array.array` that also equals a list of the same numbers."""

    __slots__ = ()
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (list, tuple)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return array.__eq__(self, other) if isinstance(other, array) else NotImplemented

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __getitem__(self, index: Any) -> Any:
        found = array.__getitem__(self, index)
        return Numbers(self.typecode, found) if isinstance(index, slice) else found

    def __repr__(self) -> str:
        return f"Numbers({self.typecode!r}, {self.tolist()!r})"


def snake(name: str) -> str:
    """`is-cancelled` as a Python attribute: `is_cancelled`; keywords get a trailing underscore."""
    made = name.replace("-", "_")
    return f"{made}_" if keyword.iskeyword(made) else made


def pascal(name: str) -> str:
    """`error-code` as a class name: `ErrorCode`."""
    made = "".join(part[:1].upper() + part[1:] for part in name.split("-"))
    return f"{made}_" if keyword.iskeyword(made) else made


def constant(name: str) -> str:
    """`no-entry` as an enum member: `NO_ENTRY`."""
    return name.replace("-", "_").upper()


def record(name: str | None, fields: list[str]) -> tuple[type, list[str]]:
    """A dataclass for a record, and its attribute names."""
    attributes = [snake(f) for f in fields]
    # `field()` says that there is no default: `mro` would find that of `type` otherwise
    members: list[Any] = [(attribute, Any, field()) for attribute in attributes]
    made = make_dataclass(pascal(name or "record"), members, slots=True, namespace={"__module__": MODULE})
    return made, attributes


class Case:
    """Base of all variant cases.

    Attributes:
        case: The WIT name of the case.
    """

    __slots__ = ()
    case: str


def variant(name: str | None, cases: list[str], payloads: list[bool]) -> tuple[type, list[type]]:
    """A base class for a variant with its case classes as attributes, and these classes in order."""
    title = pascal(name or "variant")
    base = type(title, (Case,), {"__slots__": (), "__module__": MODULE, "__doc__": f"A `{name}`."})
    made: list[type] = []
    for case, payload in zip(cases, payloads, strict=True):
        fields: list[Any] = [("value", Any, field())] if payload else []
        namespace = {"case": case, "__module__": MODULE}
        cls = make_dataclass(
            pascal(case),
            fields,
            bases=(base,),
            namespace=namespace,
            slots=True,
            frozen=True,
        )
        cls.__qualname__ = f"{title}.{pascal(case)}"
        setattr(base, pascal(case), cls)
        made.append(cls)
    return base, made


def enumeration(name: str | None, cases: list[str]) -> tuple[type, list[enum.Enum]]:
    """An Enum whose values are the case numbers, and its members in order."""
    members = [(constant(c), i) for i, c in enumerate(cases)]
    made = enum.Enum(pascal(name or "enum"), members, module=MODULE)  # type: ignore[misc]
    return made, list(made)


def flags(name: str | None, names: list[str]) -> Any:
    """A Flag with one bit a name, the first the lowest."""
    members = [(constant(n), 1 << i) for i, n in enumerate(names)]
    return enum.Flag(pascal(name or "flags"), members, module=MODULE, boundary=enum.KEEP)
