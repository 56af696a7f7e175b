"""How types of WIT are written as annotations of Python, in each place where a value may stand."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Set
from enum import Enum

from loop_kit.bind._model import NUMBERS, Definition, Name, Named, Type, plain, resource
from loop_kit.bind._names import bounded, is_option, varies

__all__ = ["Annotations", "Place", "View"]


class View(Enum):
    """Whose side an interface is seen from. The value is what its classes' names end in."""

    PROVIDER = "Provider"
    CLIENT = "Client"
    BLOCKING = "Blocking"


class Place(Enum):
    """Where a value stands: it came from the host's machinery, goes there, or is in something that may do both."""

    GIVEN = 0
    TAKEN = 1
    WITHIN = 2


_PRIMITIVES = {"bool": "bool", "char": "str", "string": "str", "f32": "float", "f64": "float"}
# These are written otherwise in another place.
_VARYING = ("list", "stream", "own", "borrow")


class Annotations:
    """Writes types.

    Args:
        names: What values of each definition are.
        view: Whose.
        handle: What a resource is called in this view; None: it is its provider's own object.
        shadowed: Names that mean something else where the annotation stands.
        hidden: Collects those of them that had to be said otherwise.
        mine: Whether this is the provider's own code, which knows its own classes.
    """

    def __init__(
        self,
        names: dict[int, str],
        view: View,
        handle: Callable[[Definition, View], str | None],
        shadowed: Set[str] = frozenset(),
        hidden: set[str] | None = None,
        *,
        mine: bool = False,
    ) -> None:
        self._names = names
        self._view = view
        self._handle = handle
        self._shadowed = shadowed
        self._mine = mine
        self._said: dict[tuple[int, Place], str] = {}
        self.hidden: set[str] = set() if hidden is None else hidden

    def known(self, name: str) -> str:
        """A name of the module, or of Python, as it can be said here."""
        first = name.partition(".")[0].partition("[")[0]
        if first not in self._shadowed:
            return name
        if hasattr(builtins, first):
            self.hidden.add("builtins")
            return f"_builtins.{name}"
        self.hidden.add(first)
        return f"_{name}"

    def of(self, type: Type | Named | Name | None, place: Place) -> str:
        """The annotation of a type; that of nothing is None.

        Raises:
            LoadError: It would be longer than anybody could want.
        """
        if not isinstance(type, Named):
            return bounded(self._of(type, place))
        key = id(type.definition), place
        if key not in self._said:
            self._said[key] = bounded(self._of(type, place))
        return self._said[key]

    def _of(self, type: Type | Named | Name | None, place: Place) -> str:
        if type is None:
            return "None"
        if isinstance(type, Named):
            return self._named(type, place)
        assert isinstance(type, Type)
        if type.kind in ("own", "borrow"):
            return self._resource(type, place)
        if type.kind == "list":
            return self._list(type, place)
        parts = [self.of(part, place) for part in type.parts]
        known = self.known
        match type.kind:
            case "tuple":
                return known(f"tuple[{', '.join(parts) or '()'}]")
            case "option":
                some = f"{known('loop.Some')}[{parts[0]}]" if is_option(type.parts[0]) else parts[0]
                return f"{some} | None"
            case "result":
                return f"{known('loop.Ok')}[{parts[0]}] | {known('loop.Err')}[{parts[1]}]"
            case "stream":
                return self._stream(type, place)
            case "future":
                return f"{known('collections.abc.Awaitable')}[{parts[0]}]"
            case "error-context":
                return known("types.ErrorContext")
            case kind:
                return known(_PRIMITIVES.get(kind, "int"))

    def _named(self, named: Named, place: Place) -> str:
        definition = named.definition
        name = self._names[id(definition)]
        if definition.kind != "alias":
            return name
        # what an alias stands for may be written otherwise in another place, and then it cannot be said by one name
        target = plain(named)
        return self.of(target, place) if varies(target, _VARYING) else name

    def _resource(self, handle: Type, place: Place) -> str:
        name = self._handle(resource(handle), self._view)
        if name is None or place is Place.WITHIN:
            return self.known("typing.Any")
        # a provider gets back what it made, and knows better what that is
        theirs = self._view is View.PROVIDER and place is Place.GIVEN and not self._mine
        return self.known("typing.Any") if theirs else name

    def _list(self, type: Type, place: Place) -> str:
        of = plain(type.parts[0])
        # one whose length is part of its type is a list always
        kind = of.kind if isinstance(of, Type) and type.length is None else ""
        if kind == "u8":
            return self.known("types.Bytes" if place is Place.TAKEN else "bytes")
        element = self.of(type.parts[0], place)
        if place is Place.WITHIN:
            return f"{self.known('collections.abc.Sequence')}[{element}]"
        if place is Place.TAKEN:
            return f"{self.known('collections.abc.Iterable')}[{element}]"
        return f"{self.known('loop.Numbers' if kind in NUMBERS else 'list')}[{element}]"

    def _stream(self, type: Type, place: Place) -> str:
        of = plain(type.parts[0])
        in_bytes = isinstance(of, Type) and of.kind == "u8"
        if place is Place.TAKEN:
            item = self.known("types.Bytes") if in_bytes else self.of(type.parts[0], place)
            whole = f" | {self.known('types.Bytes')}" if in_bytes else ""
            return f"{self.known('types.Source')}[{item}]{whole}"
        item = self.known("bytes") if in_bytes else self.of(type.parts[0], place)
        kind = "AsyncIterator" if place is Place.GIVEN else "AsyncIterable"
        return f"{self.known(f'collections.abc.{kind}')}[{item}]"
