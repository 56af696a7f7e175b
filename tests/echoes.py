"""Values through an echo, for tests of single values."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.errors import ArgumentError
from tests.guests import HOST, echo
from tests.wit_types import Type

Through = Callable[..., Any]


def passing(host: loop.blocking.Host) -> Through:
    """`through(type, value)`: the value after Python → guest → Python → guest → Python."""
    apps: dict[tuple[Type, str], loop.blocking.App] = {}

    def through(t: Type, v: Any, encoding: str = "utf8") -> Any:
        if (t, encoding) not in apps:
            provider = SimpleNamespace(echo=lambda got: got)
            apps[t, encoding] = host.load(echo(t, encoding).wasm(), {HOST: provider})
        return apps[t, encoding].call("echo", v)

    return through


def refused(through: Through, t: Type, v: Any, path: str = "", encoding: str = "utf8") -> ArgumentError:
    """Asserts that the value does not fit, at `path`."""
    with pytest.raises(ArgumentError) as caught:
        through(t, v, encoding)
    assert caught.value.path == path
    assert (caught.value.interface, caught.value.function) == ("test:guest/api", "echo")
    assert caught.value.parameter == "p0"
    return caught.value
