"""Who answers a component's imports: names matched, members found, everything missing listed at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from loop_kit._core import Exchange, Function, Interface, Link, Native, Program, Route
from loop_kit._types import pascal, snake
from loop_kit.errors import LinkError, LinkProblem

__all__ = ["attribute_of", "link_imports", "link_interface", "match"]


def match(interface: str, offered: Iterable[str]) -> str | None:
    """The key among `offered` that serves `interface`: its full name, that without the version, or its package."""
    keys = set(offered)
    bare = interface.partition("@")[0]
    return next((key for key in (interface, bare, bare.partition("/")[0]) if key in keys), None)


def attribute_of(function: str) -> tuple[str | None, str]:
    """Where a WIT function is found on a provider: the class of its resource, if any, and the attribute.

    `get-all` is `(None, "get_all")`, `[method]dir.list` is `("Dir", "list")`, `[constructor]dir` is `("Dir", "")`.
    """
    kind, bracket, rest = function.partition("]")
    if not bracket:
        return None, snake(function)
    resource, _, name = rest.partition(".")
    return pascal(resource), snake(name) if kind != "[constructor" else ""


def link_imports(link: Link, imports: Mapping[str, Any]) -> bool:
    """Links everything that `link` asks for to the objects in `imports`; returns whether any of them waits.

    Raises:
        LinkError: Imports are missing or lack members; every one is listed.
    """
    problems = [
        LinkProblem(name, None, f"is a {what}, which no host can provide")
        for name, what in link.unprovidable()
    ]
    used: set[str] = set()
    waits = False
    wanted = link.imports()
    for interface in wanted:
        if not interface.functions and not interface.resources:
            used.update(filter(None, [match(interface.name, imports)]))
            continue  # types only: nothing to provide
        if not interface.name:
            waits |= _link_root(link, interface, imports, problems, used)
            continue
        key = match(interface.name, imports)
        if key is None:
            problems.append(LinkProblem(interface.name, None, "no provider", tuple(sorted(imports))))
            continue
        used.add(key)
        waits |= link_interface(link, interface, imports[key], problems)
    for key in sorted(set(imports) - used):
        names = tuple(i.name or f.name for i in wanted for f in i.functions[:1])
        problems.append(LinkProblem(key, None, "provided, but the component does not import it", names))
    if problems:
        raise LinkError(problems)
    return waits


def _link_root(
    link: Link, interface: Interface, imports: Mapping[str, Any], problems: list[LinkProblem], used: set[str]
) -> bool:
    """Functions and resources imported by the world itself: `imports` has them by their own WIT or Python names."""
    members: dict[str, Any] = {}
    for name, value in imports.items():
        members[snake(name)] = value
    holder = _Namespace(members)
    for item in (*(f.name for f in interface.functions), *interface.resources):
        owner, attribute = attribute_of(item)
        used.update(n for n in imports if snake(n) in (attribute, owner) or n in (item, owner))
    return link_interface(link, interface, holder, problems)


class _Namespace:
    def __init__(self, members: Mapping[str, Any]) -> None:
        self.__dict__.update(members)


def link_interface(
    link: Link | Exchange, interface: Interface, provider: Any, problems: list[LinkProblem]
) -> bool:
    """Links one interface to a provider; returns whether any of it waits. What is wrong is added to `problems`."""
    # asked of the class, since a mock has every attribute
    own = getattr(type(provider), "_loop_link", None)
    if own is not None:
        return bool(own(provider, link, interface, problems))
    if isinstance(provider, Native):
        for name, message in link.define_native(interface.name, provider):
            problems.append(LinkProblem(interface.name, name, message, tuple(provider.interfaces)))
        # a provider whose answer comes later says so itself
        return False
    if isinstance(provider, Route):
        for name, message in link.define_remote(interface.name, provider):
            offered = tuple(provider.offered(interface.name))
            problems.append(LinkProblem(interface.name, name, message, offered))
        return True
    program = getattr(provider, "_program", None)
    if isinstance(program, Program):  # another loaded component: joined in the core, no Python on the path
        for name, message in link.define_program(interface.name, program):
            there = (e.name if name else e.interface for e in program.exports)
            problems.append(LinkProblem(interface.name, name, message, tuple(dict.fromkeys(there))))
        return not program.is_sync
    waits = False
    classes: dict[str, Any] = {}
    for resource in interface.resources:
        cls = getattr(provider, pascal(resource), None)
        classes[pascal(resource)] = cls
        link.define_resource(interface.name, resource, cls if isinstance(cls, type) else None)
    for function in interface.functions:
        waits |= _link_function(link, interface, function, provider, classes, problems)
    return waits


def _link_function(
    link: Link | Exchange,
    interface: Interface,
    function: Function,
    provider: Any,
    classes: Mapping[str, Any],
    problems: list[LinkProblem],
) -> bool:
    owner, attribute = attribute_of(function.name)
    holder = provider if owner is None else classes.get(owner)
    name = attribute if owner is None else f"{owner}.{attribute}" if attribute else owner
    if holder is None:
        # A resource that only the provider makes needs no class: its methods are found on the objects themselves.
        if owner is not None and function.name.startswith("[method]"):
            link.define(interface.name, function.name, None, method=attribute)
            return False
        problems.append(LinkProblem(interface.name, name, f"needed for {function.wit}", members(provider)))
        return False
    target = holder if not attribute else getattr(holder, attribute, None)
    if target is None or not callable(target):
        message = "is not callable" if target is not None else f"is missing; needed for {function.wit}"
        problems.append(LinkProblem(interface.name, name, message, members(holder)))
        return False
    complaint = None if not attribute else unfit(target, function, owner is not None)
    if complaint:
        problems.append(LinkProblem(interface.name, name, complaint, ()))
        return False
    waits = is_async(target)
    if function.name.startswith("[method]"):
        link.define(interface.name, function.name, None, method=attribute, waits=waits)
    else:
        link.define(interface.name, function.name, target, waits=waits)
    return waits


def is_async(target: Callable[..., Any]) -> bool:
    # an object that is called has its `__call__` on its class
    call = target if inspect.isroutine(target) else getattr(type(target), "__call__", target)  # noqa: B004
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call)


def unfit(target: Callable[..., Any], function: Function, method: bool) -> str | None:
    """Why `target` cannot take the function's parameters, if its signature tells."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return None  # built-in callables have none
    count = len(function.parameters)
    if method and function.name.startswith("[method]") and "self" not in signature.parameters:
        count -= 1
    try:
        signature.bind(*range(count))
    except TypeError as e:
        return f"does not fit {function.wit}: {e}"
    return None


def members(provider: Any) -> tuple[str, ...]:
    return tuple(n for n in sorted(dir(provider)) if not n.startswith("_"))
