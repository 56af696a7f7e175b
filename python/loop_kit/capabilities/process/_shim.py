"""Any program that speaks lines or JSON on its standard streams, as a provider.

It is run by `builtin:process`, so it is held as a program of a grant is. `docs/shim.md` says how it is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from loop_kit._types import Err, Ok, Some
from loop_kit._units import parse_duration
from loop_kit.capabilities import _settings
from loop_kit.placements.builtin import Builtin, driven

__all__ = ["Shim"]

_NAME = "program"
_LONGEST = 16 << 20
_LAST_WORDS = 2048


class Shim:
    """A provider of any functions, whose calls a program answers. Give it to `imports`, or name it in `loop.toml`.

    Args:
        config: `program`: as `programs.NAME` of the grant of `loop:process`, without `args`; `cwd`: a folder, absolute,
            and `mode` what the program may do there (`ro` or `rw`); `protocol`: `lines`, `json` or `whole`; `timeout`:
            what an answer may take, 30 seconds by default.
        grant: None; a program knows nothing of grants.

    Raises:
        ValueError: The config does not do.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, grant: Any = None) -> None:
        given = _settings.table("config", config, ("program", "cwd", "mode", "protocol", "timeout"))
        _settings.table("grant", grant, ())
        program = dict(_settings.table("config.program", given.get("program")))
        if "args" in program:
            raise ValueError('config.program.args: write the arguments as "fixed"; a call adds none')
        if "path" not in program:
            raise ValueError("config.program: missing the `path` of the program")
        protocol = _settings.word("config.protocol", given.get("protocol"), tuple(_PROTOCOLS), "lines")
        try:
            timeout = parse_duration(given.get("timeout", 30))
        except (TypeError, ValueError) as e:
            raise ValueError(f"config.timeout: {e}") from None
        grant = {"programs": {_NAME: program}, "max-children": 64, "max-lifetime": 10**9}
        if "cwd" in given:
            grant["roots"] = {"cwd": {"path": given["cwd"], "mode": given.get("mode", "ro")}}
        if protocol == "whole":
            grant["max-lifetime"] = timeout
        self._answer = _PROTOCOLS[protocol](_Program(grant, timeout))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or name[:1].isupper():
            raise AttributeError(name)  # resources are not spoken of in lines

        async def call(*args: Any) -> Any:
            return await self._answer(name.replace("_", "-"), args)

        return call


class _Program:
    """The program, started when it is needed."""

    def __init__(self, grant: Mapping[str, Any], timeout: float) -> None:
        self._grant = grant
        self._timeout = timeout
        self._process: Any = None
        self._open: contextlib.AsyncExitStack | None = None
        self._turn = asyncio.Lock()
        self._kept: _Kept | None = None

    def _command(self) -> dict[str, Any]:
        cwd = {"root": "cwd", "path": "."} if "roots" in self._grant else None
        return {"program": _NAME, "args": [], "env": [], "cwd": cwd, "timeout": None}

    async def _started(self) -> Any:
        if self._process is None:
            self._open = contextlib.AsyncExitStack()
            self._process = await self._open.enter_async_context(driven(Builtin("process", {}, self._grant)))
        return self._process

    async def whole(self, data: bytes) -> bytes:
        """Runs it with this input, and returns its output.

        Raises:
            Err: It failed: what it said.
            RuntimeError: It could not be run, or was not done in time.
        """
        try:
            output = await (await self._started()).commands.run(self._command(), data)
        except Err as e:
            raise RuntimeError(f"the program does not run: {e.value}") from None
        status = output.status
        if status.case == "exited" and status.value == 0:
            return bytes(output.stdout)
        said = _words(bytes(output.stderr))
        if status.case == "exited":
            raise Err(said or f"exited with {status.value}")
        raise RuntimeError(f"the program {_how(status)}{said and f': {said}'}")

    async def line(self, line: bytes) -> bytes:
        """Writes a line to the program, which runs on, and returns the line that it answers; in turn.

        Raises:
            RuntimeError: It could not be started, ended, or did not answer in time. It is started anew for the next.
        """
        async with self._turn:
            if self._kept is None or self._kept.ended:
                try:
                    child = await (await self._started()).children.spawn(self._command(), None)
                except Err as e:
                    raise RuntimeError(f"the program does not run: {e.value}") from None
                self._kept = await _Kept.of(child)
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._kept.ask(line)
            except TimeoutError:
                self._kept.close()
                raise RuntimeError(f"the program did not answer within {self._timeout:g} s") from None
            except BaseException:
                # Half an answer may be on its way, which the next call must not take for its own.
                self._kept.close()
                raise


class _Kept:
    """A program that answers line after line."""

    def __init__(self, child: Any) -> None:
        self.ended = False
        self._child = child
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._rest = bytearray()
        self._said = b""
        self._tasks: list[asyncio.Task[Any]] = []

    @classmethod
    async def of(cls, child: Any) -> _Kept:
        made = cls(child)
        made._stdout = aiter(await child.stdout())
        stderr = await child.stderr()
        made._tasks = [
            asyncio.create_task(made._write(child)),
            asyncio.create_task(made._listen(stderr)),
        ]
        return made

    _stdout: AsyncIterator[Any]

    async def ask(self, line: bytes) -> bytes:
        self._lines.put_nowait(line + b"\n")
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > _LONGEST:
                raise RuntimeError(f"the program answers a line of more than {_LONGEST} bytes")
            chunk = await anext(self._stdout, None)
            if chunk is None:
                status = await self._child.wait()
                await asyncio.wait(self._tasks[1:], timeout=1)
                said = _words(self._said)
                raise RuntimeError(f"the program {_how(status)} before it answered{said and f': {said}'}")
            self._rest += bytes(chunk)
        answer = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return answer.removesuffix(b"\r")

    def close(self) -> None:
        self.ended = True
        self._lines.put_nowait(None)
        self._child.close()

    async def _write(self, child: Any) -> None:
        async def lines() -> AsyncIterator[bytes]:
            while (line := await self._lines.get()) is not None:
                yield line

        with contextlib.suppress(Err):  # it reads no more; the answer that does not come tells
            await child.stdin(lines())

    async def _listen(self, stderr: AsyncIterator[Any]) -> None:
        async for chunk in stderr:
            self._said = (self._said + bytes(chunk))[-_LAST_WORDS:]


def _how(status: Any) -> str:
    match status.case:
        case "exited":
            return f"exited with {status.value}"
        case "signaled":
            return f"was killed by signal {status.value}"
        case _:
            return "was not done in time"


def _words(said: bytes) -> str:
    return said.decode(errors="replace").strip()


def _one(function: str, args: tuple[Any, ...]) -> bytes:
    """The one argument of a function, as bytes."""
    if len(args) != 1 or not isinstance(args[0], (str, bytes, bytearray, memoryview)):
        raise TypeError(f"{function}: this protocol is for functions of one string or list<u8>; use `json`")
    return args[0].encode() if isinstance(args[0], str) else bytes(args[0])


def _like(asked: Any, answer: bytes) -> str | bytes:
    """Text for text, bytes for bytes."""
    return answer.decode() if isinstance(asked, str) else answer


def _lines(program: _Program) -> Callable[[str, tuple[Any, ...]], Any]:
    async def answer(function: str, args: tuple[Any, ...]) -> Any:
        line = _one(function, args)
        if b"\n" in line:
            raise ValueError(f"{function}: a line feed in the argument would be two lines")
        return _like(args[0], await program.line(line))

    return answer


def _whole(program: _Program) -> Callable[[str, tuple[Any, ...]], Any]:
    async def answer(function: str, args: tuple[Any, ...]) -> Any:
        return _like(args[0], await program.whole(_one(function, args)))

    return answer


def _json(program: _Program) -> Callable[[str, tuple[Any, ...]], Any]:
    async def answer(function: str, args: tuple[Any, ...]) -> Any:
        asked = {"function": function, "args": [plain(arg) for arg in args]}
        line = json.dumps(asked, ensure_ascii=False, allow_nan=False).encode()
        said = await program.line(line)
        try:
            value = json.loads(said)
        except ValueError:
            raise RuntimeError(f"the program answers {said[:200]!r}, which is not JSON") from None
        if isinstance(value, dict) and len(value) == 1:
            if "ok" in value:
                return given(value["ok"])
            if "err" in value:
                raise Err(given(value["err"]))
        return given(value)

    return answer


def plain(value: Any) -> Any:
    """A component's value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "case"):
            payload = getattr(value, "value", None)
            return value.case if not hasattr(value, "value") else [value.case, plain(payload)]
        if isinstance(value, Some):
            return plain(value.value)
        return {
            item.name.rstrip("_").replace("_", "-"): plain(getattr(value, item.name))
            for item in dataclasses.fields(value)
        }
    match value:
        case enum.Flag():
            return value.value
        case enum.Enum():
            return value.name.lower().replace("_", "-")
        case Ok():
            return {"ok": plain(value.value)}
        case Err():
            return {"err": plain(value.value)}
        case None | bool() | int() | float() | str():
            return value
        case _:
            return [plain(item) for item in value]


def given(value: Any) -> Any:
    """A JSON value as a component is given it: `["case", payload]` is a case, where a variant is wanted."""
    if isinstance(value, list):
        items = [given(item) for item in value]
        return tuple(items) if len(items) == 2 and isinstance(items[0], str) else items
    if isinstance(value, dict):
        return {name.replace("-", "_"): given(item) for name, item in value.items()}
    return value


_PROTOCOLS = {"lines": _lines, "json": _json, "whole": _whole}
