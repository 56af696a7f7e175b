"""What a component exports, or a provider serves, as Python objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from loop_kit._core import Contract, Function, Handle, NativeHandle, Program, RemoteHandle
from loop_kit._types import pascal, snake
from loop_kit.errors import NoSuchExport
from loop_kit.routes import attribute_of, match

__all__ = ["Exports", "Namespace", "Resource"]

Call = Callable[..., Any]


_HANDLES = (Handle, NativeHandle, RemoteHandle)


class Resource:
    """A resource that a guest or a provider defines, with its methods; a class for each is made at load.

    Use it as a context manager, or `close` it. The guest's destructor runs at once on a blocking host, and in one of
    the next turns on an event loop. That of an object which is simply dropped runs there too, and on a blocking host
    when its instance runs next.
    """

    __slots__ = ("_loop_handle",)
    _loop_handle: Handle | NativeHandle | RemoteHandle
    _loop_constructor: Call | None = None

    def __new__(cls, *args: Any) -> Any:
        """Wraps a handle, or calls the resource's constructor."""
        if len(args) == 1 and type(args[0]) in _HANDLES:
            made = object.__new__(cls)
            made._loop_handle = args[0]
            return made
        if cls._loop_constructor is None:
            raise TypeError(f"{cls.__name__} has no constructor; a function makes it")
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


class _Owner(Protocol):
    """A program or contract, which keeps the classes of its resources."""

    def set_resource_class(self, interface: str, name: str, class_: type) -> None: ...


class Exports(Mapping[str, Namespace]):
    """The exported interfaces by name, with or without their version; "" holds what the world itself exports.

    An interface's own name is an attribute too, where no other has it: `exports.files` is `exports["loop:fsx/files"]`.
    """

    def __init__(
        self,
        owner: _Owner,
        functions: Iterable[Function],
        resources: Iterable[tuple[str, str]],
        call: Call,
        types: Iterable[tuple[str, str, Any]] = (),
    ) -> None:
        self._spaces: dict[str, Namespace] = {}
        for interface, resource in resources:
            space = self._spaces.setdefault(interface, Namespace(interface))
            _class_of(space, interface, resource, owner)
        for index, function in enumerate(functions):
            space = self._spaces.setdefault(function.interface, Namespace(function.interface))
            _add(space, function, partial(call, index), owner)
        for interface, name, cls in types:
            if interface in self._spaces:
                setattr(self._spaces[interface], pascal(name), cls)

    @classmethod
    def of_program(cls, program: Program, call: Call) -> Exports:
        """Those of a component; `call` takes a function's number and its arguments."""
        return cls(program, program.exports, program.resources, call, program.types())

    @classmethod
    def of_contract(cls, contract: Contract, call: Call) -> Exports:
        """Those of a provider. A contract can be taken for one provider only, for its resources have classes."""
        interfaces = contract.interfaces()
        functions = [function for interface in interfaces for function in interface.functions]
        resources = [(interface.name, name) for interface in interfaces for name in interface.resources]
        return cls(contract, functions, resources, call)

    def __getattr__(self, name: str) -> Namespace:
        spaces = [] if name.startswith("_") else self._spaces
        found = [key for key in spaces if snake(key.partition("@")[0].rpartition("/")[2]) == name]
        if len(found) != 1:
            raise AttributeError(f"there is no single interface {name!r} among {', '.join(spaces) or 'none'}")
        return self._spaces[found[0]]

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


def _add(space: Namespace, function: Function, call: Call, owner: _Owner) -> None:
    of, attribute = attribute_of(function.name)
    if of is None:
        setattr(space, attribute, call)
        return
    resource = function.name.partition("]")[2].partition(".")[0]
    cls = vars(space).get(of) or _class_of(space, function.interface, resource, owner)
    if function.name.startswith("[constructor]"):
        cls._loop_constructor = staticmethod(call)
    elif function.name.startswith("[static]"):
        setattr(cls, attribute, staticmethod(call))
    else:
        setattr(cls, attribute, _method(call))


def _class_of(space: Namespace, interface: str, resource: str, owner: _Owner) -> type[Resource]:
    cls = type(pascal(resource), (Resource,), {"__slots__": (), "__module__": "loop_kit.types"})
    setattr(space, pascal(resource), cls)
    owner.set_resource_class(interface, resource, cls)
    return cls


def _method(call: Call) -> Call:
    # a partial is no descriptor, so it would not receive its object
    def method(self: Resource, *args: Any) -> Any:
        return call(self, *args)

    return method
