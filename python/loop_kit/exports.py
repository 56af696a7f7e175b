"""A component's exports as Python objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from loop_kit._core import Function, Handle, Program
from loop_kit._types import pascal
from loop_kit.errors import NoSuchExport
from loop_kit.routes import attribute_of, match

__all__ = ["Exports", "Namespace", "Resource"]

Call = Callable[..., Any]


class Resource:
    """A resource that a guest defines, with its methods; a class for each is made at load.

    Use it as a context manager, or `close` it. The guest's destructor runs at once on a blocking host, and in one of
    the next turns on an event loop. That of an object which is simply dropped runs there too, and on a blocking host
    when its instance runs next.
    """

    __slots__ = ("_loop_handle",)
    _loop_handle: Handle
    _loop_constructor: Call | None = None

    def __new__(cls, *args: Any) -> Any:
        """Wraps a handle, or calls the resource's constructor."""
        if len(args) == 1 and type(args[0]) is Handle:
            made = object.__new__(cls)
            made._loop_handle = args[0]
            return made
        if cls._loop_constructor is None:
            raise TypeError(f"{cls.__name__} has no constructor; the component makes it by a function")
        return cls._loop_constructor(*args)

    def close(self) -> None:
        """Drops the resource. Again is harmless."""
        self._loop_handle.drop()

    def __enter__(self) -> Resource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Resource:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._loop_handle)


class Namespace:
    """One exported interface: its functions, resource classes and types as attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        members = ", ".join(sorted(n for n in vars(self) if not n.startswith("_")))
        return f"<exports of {self._name or 'the world'}: {members}>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self!r} has no {name!r}")


class Exports(Mapping[str, Namespace]):
    """The exported interfaces by name, with or without their version; "" holds what the world itself exports."""

    def __init__(self, program: Program, call: Call) -> None:
        self._spaces: dict[str, Namespace] = {}
        for interface, resource in program.resources:
            space = self._spaces.setdefault(interface, Namespace(interface))
            _class_of(space, interface, resource, program)
        for index, function in enumerate(program.exports):
            space = self._spaces.setdefault(function.interface, Namespace(function.interface))
            _add(space, function, partial(call, index), program)
        for interface, name, cls in program.types():
            if interface in self._spaces:
                setattr(self._spaces[interface], pascal(name), cls)

    def __getitem__(self, name: str) -> Namespace:
        key = match(name, self._spaces) or next(
            (s for s in self._spaces if s.partition("@")[0] == name), None
        )
        if key is None:
            raise NoSuchExport(name, self._spaces)
        return self._spaces[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spaces)

    def __len__(self) -> int:
        return len(self._spaces)


def _add(space: Namespace, function: Function, call: Call, program: Program) -> None:
    owner, attribute = attribute_of(function.name)
    if owner is None:
        setattr(space, attribute, call)
        return
    resource = function.name.partition("]")[2].partition(".")[0]
    cls = vars(space).get(owner) or _class_of(space, function.interface, resource, program)
    if function.name.startswith("[constructor]"):
        cls._loop_constructor = staticmethod(call)
    elif function.name.startswith("[static]"):
        setattr(cls, attribute, staticmethod(call))
    else:
        setattr(cls, attribute, _method(call))


def _class_of(space: Namespace, interface: str, resource: str, program: Program) -> type[Resource]:
    cls = type(pascal(resource), (Resource,), {"__slots__": (), "__module__": "loop_kit.types"})
    setattr(space, pascal(resource), cls)
    program.set_resource_class(interface, resource, cls)
    return cls


def _method(call: Call) -> Call:
    # a partial is no descriptor, so it would not receive its object
    def method(self: Resource, *args: Any) -> Any:
        return call(self, *args)

    return method
