"""A sidecar for `loop:bench/echo` that takes 2 ms more in one place: `python bench_slow.py provider|decode|queue`."""

import asyncio
import sys
import time
from typing import Any

from loop_kit import _types, provider
from loop_kit.bench.providers import Bench

SECONDS = 0.002
# Meanwhile the calls that follow arrive together.
FIRST_SECONDS = 0.02


def wait(seconds: float = SECONDS) -> None:
    """Sleeps for exactly so long: no system wakes a process to the microsecond."""
    end = time.perf_counter() + seconds
    time.sleep(seconds * 0.7)
    while time.perf_counter() < end:
        pass


class SlowProvider(Bench):
    def small(self, a: int, b: int) -> int:
        wait()
        return super().small(a, b)


class SlowQueue(Bench):
    """Of three calls the first takes long, and the second holds up the third."""

    calls = 0

    def small(self, a: int, b: int) -> int:
        self.calls += 1
        wait(FIRST_SECONDS if self.calls % 3 == 1 else SECONDS)
        return super().small(a, b)


class SlowField:
    """The field of a record; it takes its time to be set, which only decoding does."""

    def __init__(self, field: Any) -> None:
        self.field = field

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        return self.field.__get__(obj, owner)

    def __set__(self, obj: Any, value: Any) -> None:
        wait()
        self.field.__set__(obj, value)


def decode_slowly() -> None:
    make = _types.record

    def slow(*args: Any) -> Any:
        made, names = make(*args)
        setattr(made, names[0], SlowField(made.__dict__[names[0]]))
        return made, names

    setattr(_types, "record", slow)  # noqa: B010 - to the type checker it is a function for good


if __name__ == "__main__":
    served: dict[str, type] = {"provider": SlowProvider, "queue": SlowQueue, "decode": Bench}
    if sys.argv[1] == "decode":
        decode_slowly()
    asyncio.run(provider.run(served[sys.argv[1]], on=None))
