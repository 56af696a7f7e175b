"""Python classes of WIT types, as componentize-py maps them, so that guests and hosts feel the same.

The compiled core calls `record`, `variant`, `enumeration` and `flags` when it first meets a value of a named type, and
modules of `loop bind` have them in `loop_kit.types`. WIT types are structural: components, and the core with them, know
no name of a type by which it would differ from another. So classes of one name and the same members are one class as
long as somebody has it, and where names differ, values are still equal, and instances, by their members.
"""

from __future__ import annotations

import enum
import keyword
from array import array
from dataclasses import dataclass, field, make_dataclass
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from weakref import WeakValueDictionary

from loop_kit._core import Ok

__all__ = ["Enum", "Err", "Flags", "Numbers", "Ok", "Some", "constant", "pascal", "snake"]

T = TypeVar("T", covariant=True)
N = TypeVar("N", int, float)

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
    value: T

    @overload
    def __init__(self: Err[None]) -> None: ...

    @overload
    def __init__(self, value: T) -> None: ...

    def __init__(self, value: Any = None) -> None:
        super().__init__(*(() if value is None else (value,)))
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Err) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((Err, self.value))

    def __repr__(self) -> str:
        return f"Err({self.value!r})"


if TYPE_CHECKING:

    class _Array(array[N]):
        """An array, of what it says in brackets."""
else:

    class _Array(array):
        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


class Numbers(_Array[N]):
    """A list of numbers in one block of memory: an `array.array` that also equals a list of the same numbers."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

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


Shape = tuple[Any, ...]

# By name and shape. Weak: a host that loads components all day must not keep what they called their types.
_known: WeakValueDictionary[tuple[str, Shape], Any] = WeakValueDictionary()


def _is_one(cls: Any, value: object) -> bool:
    shapes = cls._loop_shapes
    return bool(shapes) and shapes[-1] in getattr(type(value), "_loop_shapes", ())


class _Structural(type):
    """Of classes whose instances are whatever has the same members."""

    _loop_shapes: tuple[Shape, ...]

    def __instancecheck__(cls, value: object) -> bool:
        return type.__instancecheck__(cls, value) or _is_one(cls, value)


class Record(metaclass=_Structural):
    """Base of all records. They have no hash, for their fields may change."""

    __slots__ = ()
    _loop_shapes = ()


class Case(metaclass=_Structural):
    """Base of all variant cases.

    Attributes:
        case: The WIT name of the case.
    """

    __slots__ = ()
    _loop_shapes = ()
    case: str


def _equal_to_others(cls: Any) -> None:
    """Has instances of a dataclass equal those of others that have the same members."""
    fast = cls.__eq__  # which knows its own alone

    def equal(one: Any, other: object) -> Any:
        known = fast(one, other)
        if known is not NotImplemented or not _is_one(cls, other):
            return known
        return all(getattr(one, name) == getattr(other, name) for name in cls.__match_args__)

    cls.__eq__ = equal


class _StructuralEnum(enum.EnumMeta):
    """The same of enums and flags, by the names of their members in order."""

    _loop_shapes: tuple[Shape, ...]

    def __new__(mcs, name: str, bases: Any, namespace: Any, /, **more: Any) -> Any:
        made: Any = super().__new__(mcs, name, bases, namespace, **more)
        if not made.__members__:
            made._loop_shapes = ()
            return made
        shape = (bases[-1].__name__, *made.__members__)
        made._loop_shapes = (shape,)
        return _known.setdefault((name, shape), made)

    def __instancecheck__(cls, value: object) -> bool:
        return type.__instancecheck__(cls, value) or _is_one(cls, value)


class Enum(enum.Enum, metaclass=_StructuralEnum):
    """Base of all enums. A member's value is its number."""

    if (
        not TYPE_CHECKING
    ):  # a type checker tells members apart by identity, which holds where names are the same

        def __eq__(self, other: object) -> bool:
            return self is other or (_is_one(type(self), other) and self._value_ == other._value_)

        def __hash__(self) -> int:
            return hash(self._name_)


class Flags(enum.Flag, metaclass=_StructuralEnum, boundary=enum.KEEP):
    """Base of all flags. The first is the lowest bit."""

    if not TYPE_CHECKING:

        def __eq__(self, other: object) -> bool:
            return self is other or (_is_one(type(self), other) and self._value_ == other._value_)

        def __hash__(self) -> int:
            return hash(self._value_)


def record(name: str | None, fields: list[str]) -> tuple[type, list[str]]:
    """A dataclass for a record, and its attribute names."""
    attributes = [snake(f) for f in fields]
    return record_class(pascal(name or "record"), attributes), attributes


def record_class(name: str, attributes: list[str]) -> type:
    """A dataclass of that name and these attributes."""
    shape = ("record", *attributes)
    made: type | None = _known.get((name, shape))
    if made is None:
        # `field()` says that there is no default: `mro` would find that of `type` otherwise
        members: list[Any] = [(attribute, Any, field()) for attribute in attributes]
        namespace = {"__module__": MODULE, "_loop_shapes": (shape,)}
        made = make_dataclass(name, members, bases=(Record,), namespace=namespace, slots=True)
        _equal_to_others(made)
        _known[name, shape] = made
    return made


def variant(name: str | None, cases: list[str], payloads: list[bool]) -> tuple[type, list[type]]:
    """A base class for a variant with its case classes as attributes, and these classes in order."""
    title = pascal(name or "variant")
    shape = ("variant", *zip(cases, payloads, strict=True))
    base: type | None = _known.get((title, shape))
    if base is None:
        base = _variant(title, name, cases, payloads, shape)
        _known[title, shape] = base
    return base, base._loop_cases  # type: ignore[attr-defined]


def _variant(title: str, name: str | None, cases: list[str], payloads: list[bool], shape: Shape) -> type:
    namespace = {"__slots__": (), "__module__": MODULE, "__doc__": f"A `{name}`.", "_loop_shapes": (shape,)}
    base: Any = _Structural(title, (Case,), namespace)
    base._loop_cases = []
    for case, payload in zip(cases, payloads, strict=True):
        fields: list[Any] = [("value", Any, field())] if payload else []
        cls = make_dataclass(
            pascal(case),
            fields,
            bases=(base,),
            namespace={"case": case, "__module__": MODULE, "_loop_shapes": (shape, (*shape, case))},
            slots=True,
            frozen=True,
        )
        _equal_to_others(cls)
        cls.__qualname__ = f"{title}.{pascal(case)}"
        setattr(base, pascal(case), cls)
        base._loop_cases.append(cls)
    return base  # type: ignore[no-any-return]


def enumeration(name: str | None, cases: list[str]) -> tuple[type, list[Enum]]:
    """An Enum whose values are the case numbers, and its members in order."""
    members = [(constant(c), i) for i, c in enumerate(cases)]
    made: Any = Enum(pascal(name or "enum"), members, module=MODULE)  # type: ignore[call-arg]
    return made, list(made)


def flags(name: str | None, names: list[str]) -> Any:
    """A Flag with one bit a name, the first the lowest."""
    members = [(constant(n), 1 << i) for i, n in enumerate(names)]
    return Flags(pascal(name or "flags"), members, module=MODULE)  # type: ignore[call-arg]
