"""Random WIT types and values, and the forms that values take in loop-kit and in wasmtime-py.

Between the two stands a plain form: numbers, bool and str as they are; lists, records and tuples as tuples;
all that has a discriminant as `(case number, payload or None)`; flags as an int of bits.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from wasmtime import component as judge

import loop_kit as loop
from loop_kit._types import pascal, snake
from tests.wit_types import (
    BOOL,
    CHAR,
    F32,
    F64,
    INTEGERS,
    STRING,
    Enum,
    Fixed,
    Flags,
    List,
    Option,
    Prim,
    Product,
    Record,
    Result,
    Sum,
    Tuple,
    Type,
    Variant,
)

LIMITS = {
    t: (0, 2 ** (8 * t.size) - 1)
    if t.wat[0] == "u"
    else (-(2 ** (8 * t.size - 1)), 2 ** (8 * t.size - 1) - 1)
    for t in INTEGERS
}
PRIMITIVES = (*INTEGERS, F32, F64, BOOL, CHAR, STRING)
# Words of Python and of its Enum, dataclass and object are among them.
WORDS = [
    *(
        "a",
        "b",
        "c",
        "x",
        "y",
        "z0",
        "A",
        "b-2",
        "class",
        "from-year",
        "is",
        "none",
        "true",
        "lambda",
        "self",
    ),
    *("name", "value", "case", "error", "init", "slots", "HTTP-code", "ok", "some", "match", "args", "dict"),
]

scalars = st.characters(exclude_categories=["Cs"])
texts = st.text(scalars, max_size=6) | st.sampled_from(["", "\0", "é", "ÿĀ", "日本", "𝄞", "a" * 300])
# case-insensitively unique, as WIT wants them
names = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6, unique_by=str.lower)
many_names = st.sampled_from([7, 8, 9, 16, 17, 31, 32]).map(lambda n: [f"n{i}" for i in range(n)])
huge_names = st.sampled_from([255, 256, 257, 300]).map(lambda n: [f"n{i}" for i in range(n)])


def _compound(inner: st.SearchStrategy[Type], fixed: bool) -> st.SearchStrategy[Type]:
    maybe = st.none() | inner

    def paired(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
        return names.flatmap(lambda ns: st.tuples(*[st.tuples(st.just(n), strategy) for n in ns]))

    made: list[st.SearchStrategy[Type]] = [
        inner.map(List),
        inner.map(Option),
        st.builds(Result, maybe, maybe),
        st.lists(inner, min_size=1, max_size=5).map(tuple).map(Tuple),
        paired(inner).map(Record),
        paired(maybe).map(Variant),
    ]
    if fixed:
        made.append(st.builds(Fixed, inner, st.integers(1, 4)))
    return st.one_of(made)


def types(fixed: bool = False) -> st.SearchStrategy[Type]:
    """Any value type but handles, streams and futures; with `fixed`, lists of fixed length too."""
    leaves = (
        st.sampled_from(PRIMITIVES)
        | (names | many_names | huge_names).map(tuple).map(Enum)
        | (names | many_names).map(tuple).map(Flags)
    )
    return st.recursive(leaves, lambda inner: _compound(inner, fixed), max_leaves=8)


def values(t: Type) -> st.SearchStrategy[Any]:
    """Values of `t` in their plain form."""
    match t:
        case Prim():
            return _primitive(t)
        case List():
            return st.lists(values(t.item), max_size=4).map(tuple)
        case Fixed():
            return st.tuples(*[values(t.item)] * t.count)
        case Product():
            return st.tuples(*map(values, t.children))
        case Flags():
            return st.integers(0, 2 ** len(t.names) - 1)
        case Sum():
            numbers = range(len(t.cases))
            wanted = st.sampled_from(numbers) | st.sampled_from([numbers[-1]])

            def payload(n: int) -> st.SearchStrategy[Any]:
                case = t.cases[n]
                return st.tuples(st.just(n), values(case) if case else st.none())

            return wanted.flatmap(payload)
    raise TypeError(t)


def _primitive(t: Prim) -> st.SearchStrategy[Any]:
    if t in LIMITS:
        low, high = LIMITS[t]
        return st.integers(low, high) | st.sampled_from([low, high, 0, 1])
    special = st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan])
    if t in (F32, F64):
        # Python's own NaN only: whether payloads survive is up to the host
        number = st.floats(width=32 if t == F32 else 64).map(lambda f: math.nan if math.isnan(f) else f)
        return number | special
    return {BOOL: st.booleans(), CHAR: scalars, STRING: texts}[t]


def same(a: Any, b: Any) -> bool:
    """Equality of plain values, where every NaN is the same value and zeros have signs."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


# ---- loop-kit


def to_loop(t: Type, v: Any) -> Any:
    """What a caller without classes passes: dicts and namespaces, names of cases, `Some`, `Ok`, `Err`."""
    match t:
        case List() | Fixed():
            item = t.item
            return bytes(v) if item == Prim("u8") and isinstance(t, List) else [to_loop(item, x) for x in v]
        case Tuple():
            return tuple(to_loop(c, x) for c, x in zip(t.items, v, strict=True))
        case Record():
            found = {snake(n): to_loop(c, x) for (n, c), x in zip(t.fields, v, strict=True)}
            return SimpleNamespace(**found) if len(found) % 2 else found
        case Option():
            inner = to_loop(t.some, v[1]) if v[0] else None
            return loop.Some(inner) if v[0] and isinstance(t.some, Option) else inner
        case Result():
            payload = to_loop(c, v[1]) if (c := t.cases[v[0]]) else None
            return loop.Err(payload) if v[0] else loop.Ok(payload)
        case Variant():
            name, case = t.named[v[0]]
            return (name, to_loop(case, v[1])) if case else name
        case Enum():
            return t.names[v[0]]
    return v


def from_loop(t: Type, v: Any) -> Any:
    """The plain form of what a call returned or a provider received; every class is asserted on the way."""
    match t:
        case List() if t.item == Prim("u8"):
            assert type(v) is bytes
            return tuple(v)
        case List() if t.item in LIMITS or t.item in (F32, F64):
            assert type(v) is loop.Numbers
            return tuple(v)
        case List() | Fixed():
            assert type(v) is list
            return tuple(from_loop(t.item, x) for x in v)
        case Tuple():
            assert type(v) is tuple
            return tuple(from_loop(c, x) for c, x in zip(t.items, v, strict=True))
        case Record():
            assert list(v.__dataclass_fields__) == [snake(n) for n, _ in t.fields]
            return tuple(from_loop(c, getattr(v, snake(n))) for n, c in t.fields)
        case Option():
            if v is None:
                return 0, None
            if isinstance(t.some, Option):
                assert type(v) is loop.Some
                v = v.value
            return 1, from_loop(t.some, v)
        case Result():
            assert type(v) in (loop.Ok, loop.Err)
            n = int(type(v) is loop.Err)
            case = t.cases[n]
            assert case or v.value is None
            return n, from_loop(case, v.value) if case else None
        case Variant():
            n = [name for name, _ in t.named].index(v.case)
            case = t.cases[n]
            assert type(v).__name__ == pascal(v.case)
            return n, from_loop(case, v.value) if case else None
        case Enum():
            assert v.name == t.names[v.value].replace("-", "_").upper()
            return v.value, None
        case Flags():
            return v.value
    return v


# ---- wasmtime-py


class Unjudged(Exception):
    """wasmtime-py would take the value for another case: it tells untagged cases by Python types alone."""


def to_judge(t: Type, jt: Any, v: Any, gives: bool = False) -> Any:
    """The value as wasmtime-py takes it, or with `gives`, as it gives it back; `jt` is its type."""
    match t:
        case List():
            items = [to_judge(t.item, jt.element, x, gives) for x in v]
            return bytes(items) if t.item == Prim("u8") else items
        case Tuple():
            return tuple(to_judge(c, j, x, gives) for c, j, x in zip(t.items, jt.elements, v, strict=True))
        case Record():
            made: Any = judge.Record()
            for (name, case), (_, jcase), x in zip(t.fields, jt.fields, v, strict=True):
                setattr(made, name, to_judge(case, jcase, x, gives))
            return made
        case Enum():
            return t.names[v[0]]
        case Flags():
            return {name for i, name in enumerate(t.names) if v >> i & 1}
        case Sum():
            jcases = jt._cases()
            name, jcase = jcases[v[0]]
            case = t.cases[v[0]]
            payload = to_judge(case, jcase, v[1], gives) if case else None
            if jt._tagged():
                return judge.Variant(name, payload)
            for _, earlier in [] if gives else jcases[: v[0]]:
                classes: set[type] = {type(None)}
                if earlier is not None:
                    classes.clear()
                    earlier.add_classes(classes)
                if isinstance(payload, tuple(classes)):
                    raise Unjudged
            return payload
    return v


def same_judged(a: Any, b: Any) -> bool:
    """Equality of values in wasmtime-py's form."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return same(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_judged, a, b))
    if isinstance(a, judge.Record):
        return same_judged(list(vars(a).items()), list(vars(b).items()))
    if isinstance(a, judge.Variant):
        return a.tag == b.tag and same_judged(a.payload, b.payload)
    return bool(a == b)
