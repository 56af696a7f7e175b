"""Component values as scripts write them: to Python arguments, and compared with Python results."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import loop_kit as loop
from loop_kit._types import constant, snake
from tests.conformance.sexpr import Item, Node, Text

INTEGERS = frozenset(f"{sign}{bits}.const" for sign in "us" for bits in (8, 16, 32, 64))
OPTIONS = ("option.some", "option.none")

FlagBits = Callable[[list[str]], Any]


def argument(const: Node, flag_bits: FlagBits) -> Any:
    """The Python argument for a constant; `flag_bits` makes what stands for a set of flags.

    Raises:
        ValueError: Not a constant.
    """

    def each(items: tuple[Item, ...]) -> list[Any]:
        return [argument(node(item), flag_bits) for item in items]

    rest = const.items[1:]
    match const.head:
        case "list.const":
            return each(rest)
        case "tuple.const":
            return tuple(each(rest))
        case "record.const":
            return {name: argument(value, flag_bits) for name, value in _fields(const)}
        case "variant.const":
            return (str(rest[0]), each(rest[1:])[0] if rest[1:] else None)
        case "enum.const":
            return str(rest[0])
        case "option.none":
            return None
        case "option.some":
            value = each(rest)[0]
            return loop.Some(value) if node(rest[0]).head in OPTIONS else value
        case "result.ok":
            return loop.Ok(*each(rest))
        case "result.err":
            return loop.Err(*each(rest))
        case "flags.const":
            return flag_bits([str(name) for name in rest])
        case _:
            return _scalar(const)


def same(const: Node, value: Any) -> bool:
    """Whether a result is what the constant says. NaNs are all the same; zeros have signs.

    Raises:
        ValueError: Not a constant.
    """
    rest = const.items[1:]
    match const.head:
        case "list.const" | "tuple.const":
            if isinstance(value, (str, bytes)) and not (
                isinstance(value, bytes) and const.head == "list.const"
            ):
                return False
            return len(value) == len(rest) and all(map(same, map(node, rest), value))
        case "record.const":
            return all(same(expected, getattr(value, snake(name))) for name, expected in _fields(const))
        case "variant.const":
            payload = [getattr(value, "value", None)] if rest[1:] else []
            fits = bool(rest[1:]) == hasattr(value, "value")
            return value.case == str(rest[0]) and fits and all(map(same, map(node, rest[1:]), payload))
        case "enum.const":
            return bool(value.name == constant(str(rest[0])))
        case "option.none":
            return value is None
        case "option.some":
            inner = node(rest[0])
            if inner.head in OPTIONS:
                return isinstance(value, loop.Some) and same(inner, value.value)
            return value is not None and same(inner, value)
        case "result.ok" | "result.err":
            kind = loop.Ok if const.head == "result.ok" else loop.Err
            if not isinstance(value, kind):
                return False
            return same(node(rest[0]), value.value) if rest else value.value is None
        case "flags.const":
            return {member.name for member in value} == {constant(str(name)) for name in rest}
        case "f32.const" | "f64.const":
            expected = _scalar(const)
            if not isinstance(value, float):
                return False
            return (math.isnan(value) and math.isnan(expected)) or _bits(value) == _bits(expected)
        case _:
            expected = _scalar(const)
            return type(value) is type(expected) and value == expected


def _scalar(const: Node) -> Any:
    word = const.items[1] if len(const.items) == 2 else None
    if const.head in ("str.const", "char.const") and isinstance(word, Text):
        return str(word)
    if not isinstance(word, str):
        raise ValueError(f"not a constant: {const.head}")
    if const.head == "bool.const" and word in ("true", "false"):
        return word == "true"
    if const.head in INTEGERS:
        return int(word.replace("_", ""), 0 if "0x" in word else 10)
    if const.head in ("f32.const", "f64.const"):
        number = _float(word.replace("_", ""))
        return struct.unpack("<f", struct.pack("<f", number))[0] if const.head == "f32.const" else number
    raise ValueError(f"not a constant: {const.head} {word}")


def _float(word: str) -> float:
    sign, digits = (-1.0, word[1:]) if word.startswith("-") else (1.0, word.removeprefix("+"))
    if digits.startswith("nan"):
        return math.nan
    return math.copysign(float.fromhex(digits) if digits.startswith("0x") else float(digits), sign)


def _bits(value: float) -> bytes:
    return struct.pack("<d", value)


def _fields(record: Node) -> list[tuple[str, Node]]:
    found = []
    for item in record.items[1:]:
        field = node(item)
        if field.head != "field":
            raise ValueError("a record's constant has something else than fields")
        # the value has no parentheses of its own: (field "n" u32.const 7)
        found.append((str(field.items[1]), Node(field.items[2:], field.start, field.end)))
    return found


def node(item: Item) -> Node:
    """The item, which has to be an expression.

    Raises:
        ValueError: It is a word or a string.
    """
    if not isinstance(item, Node):
        raise ValueError(f"not a constant: {item}")
    return item
