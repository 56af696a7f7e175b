"""A provider of all kinds, typed by what `loop bind` made: it gives back what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import assert_never

import bindings as b

import loop_kit as loop
from loop_kit.provider import provider


class _Counter:
    def __init__(self, start: int) -> None:
        self.n = start

    def add(self, n: int) -> int:
        self.n += n
        return self.n

    def list(self) -> list[str]:
        return [str(self.n)]

    async def await_(self, text: str) -> str:
        if not text:
            raise loop.Err(b.Color.DARK_GREEN)
        return f"{text}{self.n}"

    @staticmethod
    def merge(a: _Counter, b: _Counter) -> _Counter:
        return _Counter(a.n + b.n)


def told(shape: b.AnyShape) -> str:
    """Each case by its class, and nothing else there."""
    match shape:
        case b.Shape.None_():
            return "none"
        case b.Shape.Circle(radius):
            return f"circle {radius + 0.5}"
        case b.Shape.Many(points):
            return f"many {sum(point.x for point in points)}"
        case b.Shape.Nested(inner):
            return "nothing" if inner is None else f"some {inner.value}"
        case b.Shape.Outcome(outcome):
            return f"err {outcome.value.name}" if isinstance(outcome, loop.Err) else "ok"
    assert_never(shape)


class Kinds:
    Counter = _Counter

    def echo_point(self, v: b.Point) -> b.Point:
        assert isinstance(v, b.Point)
        assert isinstance(v.bytes, bytes)
        return b.Point(v.x, class_=v.class_, import_=v.import_, ids=list(v.ids), bytes=v.bytes)

    def echo_shape(self, v: b.AnyShape) -> b.AnyShape:
        assert isinstance(v, b.Shape)
        told(v)
        return v

    def echo_color(self, v: b.Color) -> b.Color:
        if v is b.Color.RED:
            return b.Color.RED
        assert v is b.Color.DARK_GREEN
        return v

    def echo_rights(self, v: b.Rights) -> b.Rights:
        assert isinstance(v, b.Rights)
        return (v & (b.Rights.READ | b.Rights.WRITE)) | (v & b.Rights.LAMBDA)

    def echo_char(self, v: str) -> str:
        return v

    def echo_nested(self, v: loop.Some[str | None] | None) -> loop.Some[str | None] | None:
        return None if v is None else loop.Some(v.value)

    def echo_results(self, v: list[loop.Ok[int] | loop.Err[str]]) -> list[loop.Ok[int] | loop.Err[str]]:
        return v

    def echo_units(
        self, v: tuple[loop.Ok[None] | loop.Err[None], loop.Ok[int] | loop.Err[None], bool]
    ) -> tuple[loop.Ok[None] | loop.Err[None], loop.Ok[int] | loop.Err[None], bool]:
        return v

    def echo_ids(self, v: Sequence[int]) -> list[int]:
        return list(v)

    def echo_floats(self, v: loop.Numbers[float]) -> list[float]:
        return [float(each) for each in v]

    def echo_wide(self, v: loop.Numbers[int]) -> loop.Numbers[int]:
        return v

    def echo_many(self, v: list[list[b.Point]]) -> list[list[b.Point]]:
        return v

    def bytes(self, list: bytes, str: str) -> bytes:
        return list + str.encode()

    def list(self) -> list[tuple[str, float]]:
        return [("a", 0.5)]

    def type(self, from_: str, lambda_: bool) -> str:
        if lambda_:
            raise loop.Err(b.Shape.Circle(2.0))
        return from_

    def none(self) -> None:
        return None

    def look(self, v: _Counter) -> int | None:
        return v.n or None


class Flow:
    async def echo_fixed(self, v: list[int]) -> list[int]:
        return v

    def pump(self, v: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return v

    async def count(self, upto: int) -> range:
        return range(upto)

    async def _places(self, v: AsyncIterator[b.Point]) -> AsyncIterator[b.Point]:
        async for place in v:
            yield b.Point(place.x + 1, place.class_, place.import_, place.ids, place.bytes)

    def places(self, v: AsyncIterator[b.Point]) -> AsyncIterator[b.Point]:
        return self._places(v)

    def later(self, v: Awaitable[str]) -> Awaitable[str]:
        async def louder() -> str:
            return f"{await v}!"

        return louder()

    async def both(self, v: tuple[AsyncIterator[int], Awaitable[int | None]]) -> int:
        more = await v[1]
        if more is None:
            raise loop.Err("nothing to add")
        return sum([each async for each in v[0]]) + more

    def ticks(self, n: int) -> list[None]:
        return [None] * n

    def hold(self, v: b.Held) -> b.Held:
        assert isinstance(v.counter, _Counter)
        v.counter.n += 1
        return b.Held(v.name.upper(), v.counter)

    def why(self, v: object) -> str:
        return str(v)


kinds: b.KindsProvider = Kinds()
flow: b.FlowProvider = Flow()


@provider(wit="all.wit")
class Provider(Kinds, Flow):
    """Both, as a sidecar serves them."""
