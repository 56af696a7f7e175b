"""Shapes: one declaration that checks a value, parses it, and writes its JSON Schema.

A shape reports what is wrong and reads on, so that all problems of a file come at once. What `check` returns
after a problem is of no use, and nobody uses it: the manifest is refused as a whole.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from loop_kit._units import (
    DURATION_PATTERN,
    MAX_DURATION,
    MAX_SIZE,
    SIZE_PATTERN,
    parse_duration,
    parse_size,
)
from loop_kit.errors import Problem
from loop_kit.manifest._scan import Keys
from loop_kit.manifest._source import Source
from loop_kit.manifest._toml import string

__all__ = [
    "Bool", "Choice", "Cursor", "Duration", "Either", "Field", "Free", "Integer", "JsonSchema", "ListOf",
    "MapOf", "Shape", "Size", "Table", "Text", "did_you_mean", "either", "nearest",
]  # fmt: skip

JsonSchema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where in the document a shape reads, and where it reports."""

    source: Source
    report: list[Problem]
    keys: Keys = ()

    def child(self, key: str | int) -> Cursor:
        return Cursor(self.source, self.report, (*self.keys, key))

    def problem(
        self,
        message: str,
        hint: str | None = None,
        *,
        at: Literal["key", "value"] = "value",
        child: str | None = None,
    ) -> None:
        """Reports a problem of this value; `child` points at that key of it instead."""
        place = self.keys if child is None else (*self.keys, child)
        self.report.append(self.source.problem(self.keys, message, hint, at=at, place=place))


class Shape:
    """What a value may be.

    Attributes:
        expects: The shape in words, as in "expected a string".
    """

    expects = ""

    def takes(self, value: object) -> bool:
        """Whether the value is of this shape's TOML type; the rest is `read`'s to judge."""
        raise NotImplementedError

    def read(self, value: Any, at: Cursor) -> Any:
        """Returns the parsed value; reports what is wrong with it."""
        return value

    def schema(self, defs: JsonSchema) -> JsonSchema:
        """Returns the JSON Schema, adding what is shared to `defs`."""
        raise NotImplementedError

    def check(self, value: object, at: Cursor) -> Any:
        """Checks the type, then reads."""
        if self.takes(value):
            return self.read(value, at)
        at.problem(f"expected {self.expects}, got {_kind(value)}")
        return None


class Bool(Shape):
    expects = "true or false"

    def takes(self, value: object) -> bool:
        return isinstance(value, bool)

    def schema(self, defs: JsonSchema) -> JsonSchema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Integer(Shape):
    minimum: int
    maximum: int = MAX_SIZE
    expects = "an integer"

    def takes(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def read(self, value: int, at: Cursor) -> int:
        if not self.minimum <= value <= self.maximum:
            at.problem(f"must be from {self.minimum} to {self.maximum}")
        return value

    def schema(self, defs: JsonSchema) -> JsonSchema:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True)
class Text(Shape):
    """A string; `parse` may turn it into something else, by the cursor, or report a problem."""

    expects: str = "a string"
    pattern: str = r"^[^\u0000]*$"
    parse: Callable[[str, Cursor], Any] | None = None
    examples: tuple[str, ...] = ()

    def takes(self, value: object) -> bool:
        return isinstance(value, str)

    def read(self, value: str, at: Cursor) -> Any:
        if not _matches(self.pattern, value):
            at.problem(f"expected {self.expects}, got {_excerpt(value)}")
            return None
        return self.parse(value, at) if self.parse else value

    def schema(self, defs: JsonSchema) -> JsonSchema:
        schema: JsonSchema = {"type": "string", "pattern": self.pattern}
        return schema | ({"examples": list(self.examples)} if self.examples else {})


@dataclass(frozen=True)
class Choice(Shape):
    """One of some words."""

    words: tuple[str, ...]

    @property
    def expects(self) -> str:  # type: ignore[override]
        return either(map(string, self.words))

    def takes(self, value: object) -> bool:
        return isinstance(value, str)

    def read(self, value: str, at: Cursor) -> str:
        if value not in self.words:
            at.problem(f"expected {self.expects}, got {_excerpt(value)}", did_you_mean(value, self.words))
        return value

    def schema(self, defs: JsonSchema) -> JsonSchema:
        return {"enum": list(self.words)}


class _Unit(Shape):
    """A number or a string with a unit."""

    types: tuple[type, ...]
    parse: Callable[[Any], Any]

    def takes(self, value: object) -> bool:
        return isinstance(value, self.types) and not isinstance(value, bool)

    def read(self, value: Any, at: Cursor) -> Any:
        try:
            return type(self).parse(value)
        except ValueError as error:
            at.problem(str(error))
            return None


class Size(_Unit):
    expects = 'a size such as "64MiB" or a number of bytes'
    types = (int, str)
    parse = staticmethod(parse_size)

    def schema(self, defs: JsonSchema) -> JsonSchema:
        text = {"type": "string", "pattern": SIZE_PATTERN, "examples": ["64MiB", "1GB"]}
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_SIZE}, text]}


class Duration(_Unit):
    expects = 'a duration such as "250ms" or a number of seconds'
    types = (int, float, str)
    parse = staticmethod(parse_duration)

    def schema(self, defs: JsonSchema) -> JsonSchema:
        text = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["250ms", "2s"]}
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DURATION}, text]}


class Free(Shape):
    """Anything TOML can say: whoever receives it checks it. `parse` may replace it."""

    expects = "any value"

    def __init__(self, parse: Callable[[Any, Cursor], Any] | None = None) -> None:
        self.parse = parse

    def takes(self, value: object) -> bool:
        return True

    def read(self, value: Any, at: Cursor) -> Any:
        return self.parse(value, at) if self.parse else value

    def schema(self, defs: JsonSchema) -> JsonSchema:
        return {}


@dataclass(frozen=True)
class ListOf(Shape):
    item: Shape
    minimum: int = 0
    verify: Callable[[Sequence[Any], Cursor], None] | None = None
    expects = "an array"

    def takes(self, value: object) -> bool:
        return isinstance(value, list)

    def read(self, value: list[object], at: Cursor) -> tuple[Any, ...]:
        if len(value) < self.minimum:
            at.problem(f"must have at least {self.minimum} element")
        before = len(at.report)
        items = tuple(self.item.check(item, at.child(index)) for index, item in enumerate(value))
        if self.verify and len(at.report) == before:
            self.verify(items, at)
        return items

    def schema(self, defs: JsonSchema) -> JsonSchema:
        schema: JsonSchema = {"type": "array", "items": self.item.schema(defs)}
        return schema | ({"minItems": self.minimum} if self.minimum else {})


@dataclass(frozen=True)
class MapOf(Shape):
    """A table whose keys are the user's own; `special` has other shapes for keys that match a pattern."""

    value: Shape
    special: Mapping[str, Shape] = field(default_factory=dict)
    key_pattern: str = ""
    key_expects: str = ""
    expects = "a table"

    def takes(self, value: object) -> bool:
        return isinstance(value, dict)

    def read(self, value: dict[str, object], at: Cursor) -> dict[str, Any]:
        for key in value:
            if self.key_pattern and not _matches(self.key_pattern, key):
                at.problem(f"expected {self.key_expects}, got the key {_excerpt(key)}", at="key", child=key)
        return {key: self._shape_of(key).check(item, at.child(key)) for key, item in value.items()}

    def schema(self, defs: JsonSchema) -> JsonSchema:
        special = {pattern: shape.schema(defs) for pattern, shape in self.special.items()}
        return {
            "type": "object",
            **({"propertyNames": {"pattern": self.key_pattern}} if self.key_pattern else {}),
            **({"patternProperties": special} if special else {}),
            "additionalProperties": self.value.schema(defs),
        }

    def _shape_of(self, key: str) -> Shape:
        return next((shape for pattern, shape in self.special.items() if re.search(pattern, key)), self.value)


@dataclass(frozen=True)
class Either(Shape):
    """The first of some shapes that takes the value's type."""

    shapes: tuple[Shape, ...]

    @property
    def expects(self) -> str:  # type: ignore[override]
        return either(shape.expects for shape in self.shapes)

    def takes(self, value: object) -> bool:
        return any(shape.takes(value) for shape in self.shapes)

    def read(self, value: object, at: Cursor) -> Any:
        return next(shape for shape in self.shapes if shape.takes(value)).read(value, at)

    def schema(self, defs: JsonSchema) -> JsonSchema:
        return {"anyOf": [shape.schema(defs) for shape in self.shapes]}


@dataclass(frozen=True, slots=True)
class Field:
    """One known key of a table.

    Attributes:
        shape: What its value may be.
        doc: What it is for; becomes the schema's description.
        required: Whether it must be there.
        default: Only for the schema; the dataclass has the real one.
    """

    shape: Shape
    doc: str
    required: bool = False
    default: Any = None

    def schema(self, defs: JsonSchema) -> JsonSchema:
        default = {} if self.default is None else {"default": self.default}
        return {"description": self.doc} | default | self.shape.schema(defs)


@dataclass(frozen=True)
class Table(Shape):
    """A table with known keys; any other key is a problem.

    Attributes:
        into: Called with the parsed values that are present; usually a dataclass.
        fields: The known keys.
        title: Name of the definition in the JSON Schema.
        doc: What the table is.
        named: Whether `into` also takes the table's own key, as `name`.
        verify: Checks that concern several keys; gets the raw table.
        also: Schema of `verify`, as far as JSON Schema can say it.
    """

    title: str
    doc: str
    into: Callable[..., Any]
    fields: Mapping[str, Field]
    named: bool = False
    verify: Callable[[Mapping[str, Any], Cursor], None] | None = None
    also: Mapping[str, Any] = field(default_factory=dict)
    expects: str = "a table"

    def takes(self, value: object) -> bool:
        return isinstance(value, dict)

    def read(self, value: dict[str, object], at: Cursor) -> Any:
        before = len(at.report)
        for key in value:
            if key not in self.fields:
                message = f"unknown key {_excerpt(key)}"
                at.problem(message, did_you_mean(key, self.fields) or self._known(), at="key", child=key)
        for key, known in self.fields.items():
            if known.required and key not in value:
                at.problem(f"missing key {string(key)}", known.doc, at="key")
        values = {
            key: known.shape.check(value[key], at.child(key))
            for key, known in self.fields.items()
            if key in value
        }
        if self.verify:
            self.verify(value, at)
        if len(at.report) > before:
            return None
        return self.into(**values, **({"name": at.keys[-1]} if self.named else {}))

    def schema(self, defs: JsonSchema) -> JsonSchema:
        if self.title not in defs:
            defs[self.title] = {}  # keeps its place in the order of mention
            required = [key for key, known in self.fields.items() if known.required]
            defs[self.title] = {
                "description": self.doc,
                "type": "object",
                "properties": {key: known.schema(defs) for key, known in self.fields.items()},
                **({"required": required} if required else {}),
                "additionalProperties": False,
                **self.also,
            }
        return {"$ref": f"#/$defs/{self.title}"}

    def _known(self) -> str:
        return f"known here: {', '.join(self.fields)}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known word most like this one, or None if none is near."""
    # Long words would only cost time: difflib is quadratic.
    matches = difflib.get_close_matches(word, list(known), 1) if len(word) <= 100 else []
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Returns the hint `did you mean "memory"?`, or None if nothing is near."""
    near = nearest(word, known)
    return f"did you mean {string(near)}?" if near else None


def _matches(pattern: str, value: str) -> bool:
    # Patterns are anchored at both ends. Python's "$" also matches before a final line end, and ECMA's, which
    # editors use, does not; under fullmatch Python's does not either.
    return re.fullmatch(pattern, value) is not None


def _excerpt(value: str) -> str:
    return string(value if len(value) <= 60 else value[:57] + "...")


def either(words: Iterable[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f"the string {_excerpt(value)}"
        case int():
            return f"the integer {value}" if abs(value) < 10**20 else "a huge integer"
        case float():
            return f"the number {value}" if math.isfinite(value) else f"{value}"
        case list():
            return "an array"
        case dict():
            return "a table"
        case _:
            return f"a {type(value).__name__}"
