"""The echo of `wit/echo.wit`, by plain functions and by coroutines."""

from loop_kit.provider import provider


@provider("bench:wire/echo", wit="wit")
class Echo:
    def add(self, a: int, b: int) -> int:
        return (a + b) & 0xFFFF_FFFF

    def echo(self, data: bytes) -> bytes:
        return data


@provider("bench:wire/echo", wit="wit")
class AsyncEcho:
    async def add(self, a: int, b: int) -> int:
        return (a + b) & 0xFFFF_FFFF

    async def echo(self, data: bytes) -> bytes:
        return data
