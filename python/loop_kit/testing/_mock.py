"""A provider that records its calls and answers as told."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Called", "MockProvider"]


@dataclass(frozen=True, slots=True)
class Called:
    """One call of a mock.

    Attributes:
        function: The attribute that was called, `get` or `Dir.read`.
        args: The arguments.
    """

    function: str
    args: tuple[Any, ...]


class MockProvider:
    """Serves any import: each function that a component asks for answers as scripted, and every call is recorded.

        kv = MockProvider(get=b"value", put=[None, loop.Err("full")])
        app = await host.load("app.wasm", imports={"acme:kv/store": kv})
        ...
        assert kv.calls == [Called("get", ("key",))]

    Each keyword is one function's script: a list gives one answer a call, in order; a callable is called; anything
    else is the answer every time. An exception among the answers is raised. A function without a script returns
    None. For a resource, pass a class of your own.

    Attributes:
        calls: What was called, in order.
    """

    def __init__(self, **scripts: Any) -> None:
        self.calls: list[Called] = []
        self._scripts = {
            name: deque(script) if isinstance(script, list) else script for name, script in scripts.items()
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        script = self.__dict__["_scripts"].get(name)
        if inspect.isclass(script):
            return script
        answer = self._answer(name, script)
        self.__dict__[name] = answer  # the same object every time, as a method would be
        return answer

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of one function."""
        return [c.args for c in self.calls if c.function == name]

    def _answer(self, name: str, script: Any) -> Callable[..., Any]:
        def answer(*args: Any) -> Any:
            self.calls.append(Called(name, args))
            if isinstance(script, deque):
                if not script:
                    raise AssertionError(f"{name} was called more often than it has answers")
                return _give(script.popleft())
            return script(*args) if callable(script) else _give(script)

        async def wait(*args: Any) -> Any:
            return await answer(*args)

        return wait if inspect.iscoroutinefunction(script) else answer


def _give(answer: Any) -> Any:
    if isinstance(answer, BaseException):
        raise answer
    return answer
