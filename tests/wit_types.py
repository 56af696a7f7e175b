"""WIT types as Python values, with their layout by the canonical ABI.

`size` and `align` are bytes in linear memory, `flat` the core types. They are a reading of the specification
of their own: the tests of values would show where the product reads it differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

MAX_FLAT = 16


class Type:
    """A WIT type."""

    @property
    def size(self) -> int:
        raise NotImplementedError

    @property
    def align(self) -> int:
        raise NotImplementedError

    @property
    def flat(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def children(self) -> tuple[Type, ...]:
        return ()

    def walk(self) -> Iterator[Type]:
        """The types within, the innermost first, and this one."""
        for child in self.children:
            yield from child.walk()
        yield self


@dataclass(frozen=True)
class Prim(Type):
    """bool, a number, char or string."""

    wat: str

    @property
    def size(self) -> int:
        return _PRIMITIVE[self.wat][0]

    @property
    def align(self) -> int:
        return min(self.size, 4) if self.wat == "string" else self.size

    @property
    def flat(self) -> tuple[str, ...]:
        return _PRIMITIVE[self.wat][1]


_PRIMITIVE: dict[str, tuple[int, tuple[str, ...]]] = {
    "bool": (1, ("i32",)),
    "u8": (1, ("i32",)),
    "s8": (1, ("i32",)),
    "u16": (2, ("i32",)),
    "s16": (2, ("i32",)),
    "u32": (4, ("i32",)),
    "s32": (4, ("i32",)),
    "u64": (8, ("i64",)),
    "s64": (8, ("i64",)),
    "f32": (4, ("f32",)),
    "f64": (8, ("f64",)),
    "char": (4, ("i32",)),
    "string": (8, ("i32", "i32")),
}
BOOL, CHAR, STRING = Prim("bool"), Prim("char"), Prim("string")
U8, S8, U16, S16 = Prim("u8"), Prim("s8"), Prim("u16"), Prim("s16")
U32, S32, U64, S64 = Prim("u32"), Prim("s32"), Prim("u64"), Prim("s64")
F32, F64 = Prim("f32"), Prim("f64")
INTEGERS = (U8, S8, U16, S16, U32, S32, U64, S64)
NUMBERS = (*INTEGERS, F32, F64)


def aligned(offset: int, align: int) -> int:
    return -(-offset // align) * align


@dataclass(frozen=True)
class List(Type):
    item: Type
    size = 8
    align = 4
    flat = ("i32", "i32")

    @property
    def children(self) -> tuple[Type, ...]:
        return (self.item,)


@dataclass(frozen=True)
class Fixed(Type):
    """A list of fixed length."""

    item: Type
    count: int

    @property
    def children(self) -> tuple[Type, ...]:
        return (self.item,)

    @property
    def size(self) -> int:
        return self.item.size * self.count

    @property
    def align(self) -> int:
        return self.item.align

    @property
    def flat(self) -> tuple[str, ...]:
        return self.item.flat * self.count


class Product(Type):
    """What has its children one after the other."""

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        at, offsets = 0, []
        for child in self.children:
            at = aligned(at, child.align)
            offsets.append(at)
            at += child.size
        return tuple(offsets)

    @cached_property
    def align(self) -> int:
        return max((c.align for c in self.children), default=1)

    @cached_property
    def size(self) -> int:
        if not self.children:
            return 0
        return aligned(self.offsets[-1] + self.children[-1].size, self.align)

    @cached_property
    def flat(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(c.flat for c in self.children))


@dataclass(frozen=True)
class Tuple(Product):
    items: tuple[Type, ...]

    @property
    def children(self) -> tuple[Type, ...]:
        return self.items


@dataclass(frozen=True)
class Record(Product):
    fields: tuple[tuple[str, Type], ...]
    name: str = ""

    @property
    def children(self) -> tuple[Type, ...]:
        return tuple(t for _, t in self.fields)


class Sum(Type):
    """What has a discriminant: `cases` are the payloads in order."""

    @property
    def cases(self) -> tuple[Type | None, ...]:
        raise NotImplementedError

    @property
    def children(self) -> tuple[Type, ...]:
        return tuple(c for c in self.cases if c is not None)

    @cached_property
    def tag(self) -> int:
        """Bytes of the discriminant."""
        return 1 if len(self.cases) <= 1 << 8 else 2 if len(self.cases) <= 1 << 16 else 4

    @cached_property
    def payload(self) -> int:
        """Offset of the payload."""
        return aligned(self.tag, max((c.align for c in self.children), default=1))

    @cached_property
    def align(self) -> int:
        return max(self.tag, *(c.align for c in self.children), 1)

    @cached_property
    def size(self) -> int:
        return aligned(self.payload + max((c.size for c in self.children), default=0), self.align)

    @cached_property
    def flat(self) -> tuple[str, ...]:
        joined: list[str] = []
        for case in self.children:
            for i, core in enumerate(case.flat):
                if i == len(joined):
                    joined.append(core)
                elif joined[i] != core:
                    joined[i] = "i32" if {joined[i], core} == {"i32", "f32"} else "i64"
        return ("i32", *joined)


@dataclass(frozen=True)
class Option(Sum):
    some: Type

    @property
    def cases(self) -> tuple[Type | None, ...]:
        return None, self.some


@dataclass(frozen=True)
class Result(Sum):
    ok: Type | None = None
    err: Type | None = None

    @property
    def cases(self) -> tuple[Type | None, ...]:
        return self.ok, self.err


@dataclass(frozen=True)
class Variant(Sum):
    named: tuple[tuple[str, Type | None], ...]
    name: str = ""

    @property
    def cases(self) -> tuple[Type | None, ...]:
        return tuple(t for _, t in self.named)


@dataclass(frozen=True)
class Enum(Sum):
    names: tuple[str, ...]
    name: str = ""

    @property
    def cases(self) -> tuple[Type | None, ...]:
        return (None,) * len(self.names)


@dataclass(frozen=True)
class Flags(Type):
    names: tuple[str, ...]
    name: str = ""
    flat = ("i32",)

    @property
    def size(self) -> int:
        return 1 if len(self.names) <= 8 else 2 if len(self.names) <= 16 else 4

    @property
    def align(self) -> int:
        return self.size


NAMED = (Record, Variant, Enum, Flags)


@dataclass(frozen=True)
class Handle(Type):
    """`own<name>` or `borrow<name>` of a resource that extra WAT declares as `$name`."""

    kind: str
    name: str
    size = 4
    align = 4
    flat = ("i32",)


def params_flat(params: Sequence[Type]) -> tuple[str, ...]:
    """Core parameters of a function: flat values, or one pointer above the limit."""
    flat = Tuple(tuple(params)).flat
    return flat if len(flat) <= MAX_FLAT else ("i32",)


def result_flat(result: Type | None) -> tuple[str, ...]:
    """Core results of an export: the one flat value, or a pointer."""
    if result is None:
        return ()
    return result.flat if len(result.flat) <= 1 else ("i32",)


def returns_by_pointer(result: Type | None) -> bool:
    return result is not None and len(result.flat) > 1
