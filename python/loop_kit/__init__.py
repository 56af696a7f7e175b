"""loop-kit: a capability host for WebAssembly components.

Load a component, link its imports to Python objects, other components or built-in providers, and call it:

    import loop_kit as loop

    async with loop.Host() as host:
        app = await host.load("app.wasm", imports={"acme:kv/store": Store()})
        await app.call("acme:app/api#greet", "world")
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # `typing` takes longer to import than `loop task` to see that nothing has changed
if TYPE_CHECKING:
    from typing import Any

    from loop_kit import blocking, errors, telemetry, testing, wire
    from loop_kit._core import __version__
    from loop_kit._invocation import Invocation, invocation, traced
    from loop_kit._shipped import shipped
    from loop_kit._types import Err, Numbers, Ok, Some
    from loop_kit.errors import LoopError
    from loop_kit.host import App, Host
    from loop_kit.limits import Limits
    from loop_kit.placements.builtin import builtin
    from loop_kit.placements.component import Settings
    from loop_kit.wasi import Wasi

__all__ = [
    "App",
    "Err",
    "Host",
    "Invocation",
    "Limits",
    "LoopError",
    "Numbers",
    "Ok",
    "Settings",
    "Some",
    "Wasi",
    "__version__",
    "blocking",
    "builtin",
    "errors",
    "invocation",
    "shipped",
    "telemetry",
    "testing",
    "traced",
    "wire",
]

# Names are loaded when they are first used, so that the command line starts without the compiled core.
_HOMES = {
    "App": "host",
    "Err": "_types",
    "Host": "host",
    "Invocation": "_invocation",
    "Limits": "limits",
    "LoopError": "errors",
    "Numbers": "_types",
    "Ok": "_types",
    "Settings": "placements.component",
    "Some": "_types",
    "Wasi": "wasi",
    "__version__": "_core",
    "builtin": "placements.builtin",
    "invocation": "_invocation",
    "shipped": "_shipped",
    "traced": "_invocation",
}
_MODULES = {"blocking", "errors", "telemetry", "testing", "wire"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"loop_kit.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'loop_kit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"loop_kit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
