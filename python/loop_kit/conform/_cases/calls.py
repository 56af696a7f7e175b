"""Calls: how many, how they fail, and how they are given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from loop_kit import Err
from loop_kit.cli.call import plain
from loop_kit.conform._raw import FAIL, RESULT, Raw, failure
from loop_kit.conform._scene import Scene, Unmet, case, expect, fails
from loop_kit.errors import CallError, DeadlineExceeded, ProviderError

__all__: list[str] = []

_MANY = 1000


@case("errors", "the error of a result, with its payload")
async def _(scene: Scene) -> None:
    expect(await scene.call("calls#check", "hello"), 5, "check")
    for text, wanted in (("", "missing"), ("x" * 11, {"too-long": 11})):
        error = await fails(scene.call("calls#check", text), Err, "a result that is an error")
        assert isinstance(error, Err)
        expect(plain(error.value), wanted, "its payload")
    error = await fails(scene.call("calls#refuse"), Err, "a result without types that is an error")
    assert isinstance(error, Err)
    expect(error.value, None, "its payload")


@case("errors", "a failure, with its message and fields")
async def _(scene: Scene) -> None:
    error = await fails(scene.call("calls#fail", "it was Tuesday"), ProviderError, "a provider that fails")
    assert isinstance(error, ProviderError)
    expect((error.interface, error.function), ("loop:conform/calls@0.1.0", "fail"), "interface and function")
    if "it was Tuesday" not in str(error):
        raise Unmet(f"the caller should be told `it was Tuesday`, and is told `{error}`")
    expect(await scene.call("calls#add", 1, 2), 3, "the next call")


@case("calls", f"{_MANY} calls in flight")
async def _(scene: Scene) -> None:
    calls = [asyncio.ensure_future(scene.call("calls#wait", str(i % 7))) for i in range(_MANY)]
    try:
        await scene.until("calls#waiting", _MANY)
        expect(await scene.call("calls#add", 1, 2), 3, "a call beside them")
        for key in range(7):
            await scene.call("calls#release", str(key))
        expect(await asyncio.gather(*calls), [1] * _MANY, "all answers")
    finally:
        await _end(calls)


@case("calls", "more calls than are taken at once wait for their turn")
async def _(scene: Scene) -> None:
    calls = [asyncio.ensure_future(scene.call("calls#wait", "full")) for _ in range(1000)]
    more = [asyncio.ensure_future(scene.call("calls#add", i, 1)) for i in range(500)]
    try:
        expect(await asyncio.gather(*more), [i + 1 for i in range(500)], "the calls beside them")
        await scene.until("calls#waiting", 1000)
        await scene.call("calls#release", "full")
        expect(await asyncio.gather(*calls), [1] * 1000, "all answers")
    finally:
        await _end(calls + more)


@case("calls", "answers come in the order in which they are there")
async def _(scene: Scene) -> None:
    first = asyncio.ensure_future(scene.call("calls#wait", "first"))
    second = asyncio.ensure_future(scene.call("calls#wait", "second"))
    try:
        await scene.until("calls#waiting", 2)
        await scene.call("calls#release", "second")
        expect(await second, 1, "the second call")
        expect(first.done(), False, "whether the first is answered")
        await scene.call("calls#release", "first")
        expect(await first, 1, "the first call")
    finally:
        await _end([first, second])


@case("cancel", "a call that is cancelled ends at the provider")
async def _(scene: Scene) -> None:
    before = await scene.call("calls#cancelled")
    call = asyncio.ensure_future(scene.call("calls#wait", "never"))
    await scene.until("calls#waiting", 1)
    await _end([call])
    await scene.until("calls#cancelled", before + 1)
    expect(await scene.call("calls#waiting"), 0, "calls that wait")


@case("deadline", "a call that is late ends on both sides")
async def _(scene: Scene) -> None:
    before = await scene.call("calls#cancelled")
    error = await fails(
        scene.call("calls#wait", "never", deadline=0.05), DeadlineExceeded, "a call that is late"
    )
    assert isinstance(error, DeadlineExceeded)
    expect(error.seconds, 0.05, "its seconds")
    await scene.until("calls#cancelled", before + 1)
    expect(await scene.call("calls#add", 1, 2, deadline=60.0), 3, "a call that is in time")


@case("calls", "functions that are not there")
async def _(scene: Scene) -> None:
    async with scene.target.connection() as where:
        raw = await Raw.open(where)
        try:
            await raw.greet(scene.target.token)
            await raw.link(1)
            for stream, number in ((1, len(raw.functions)), (3, 2**32 - 1)):
                raw.call(stream, number, 1, b"")
                kind, payload = await raw.answer()
                expect(kind, FAIL, "the answer, as a kind of frame")
                expect(failure(payload)[0], "no-such-function", "its code")
            raw.call(5, raw.functions["loop:conform/values#nothing"], 1, b"")
            expect((await raw.answer())[0], RESULT, "the answer to the next call, as a kind of frame")
        finally:
            await raw.close()


@case("calls", "arguments that do not decode")
async def _(scene: Scene) -> None:
    async with scene.target.connection() as where:
        raw = await Raw.open(where)
        try:
            await raw.greet(scene.target.token)
            await raw.link(1)
            bad = [
                ("bool", b"\x02"),
                ("bool", b""),
                ("bool", b"\x01\x01"),
                ("string", b"\x02\xff\xff"),
                ("color", b"\x03"),
            ]
            for i, (function, root) in enumerate(bad):
                raw.call(2 * i + 1, raw.functions[f"loop:conform/values#echo-{function}"], 1, root)
                kind, payload = await raw.answer()
                expect(kind, FAIL, f"the answer to {root.hex()} as a {function}, as a kind of frame")
                expect(failure(payload)[0], "bad-value", f"the code for {root.hex()} as a {function}")
            raw.call(99, raw.functions["loop:conform/values#nothing"], 1, b"")
            expect((await raw.answer())[0], RESULT, "the answer to the next call, as a kind of frame")
        finally:
            await raw.close()


@case("reload", "new calls are served by the new code")
async def _(scene: Scene) -> None:
    before = await scene.call("calls#generation")
    await scene.session.reload(1)
    expect(await scene.call("calls#generation"), before + 1, "the generation")


@case("reload", "one that fails leaves the old code at work")
async def _(scene: Scene) -> None:
    before = await scene.call("calls#generation")
    await scene.call("calls#break-reload")
    await fails(scene.session.reload(2), CallError, "a reload that fails")
    expect(await scene.call("calls#generation"), before, "the generation after it")
    await scene.session.reload(3)
    expect(await scene.call("calls#generation"), before + 1, "the generation after the next")


@case("reload", "calls that had begun end in the old code")
async def _(scene: Scene) -> None:
    old = asyncio.ensure_future(scene.call("calls#wait", "old"))
    try:
        await scene.until("calls#waiting", 1)
        await scene.session.reload(4)
        expect(old.done(), False, "whether the call has ended")
        # what waits may be in an instance that new calls reach no more: cancelling reaches it all the same
        await _end([old])
        expect(await scene.call("calls#add", 1, 2), 3, "the next call")
    finally:
        await _end([old])


async def _end(calls: Sequence[asyncio.Future[Any]]) -> None:
    """Cancels what is left, so that the next case meets no calls of this one."""
    for call in calls:
        call.cancel()
    for call in calls:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await call
