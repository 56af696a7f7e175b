"""Programs as providers: real ones, asked by a component."""

import sys
from pathlib import Path
from typing import Any

import pytest

import loop_kit as loop
from loop_kit.capabilities.process import Shim
from tests.guests import API, HOST
from tests.linked_guests import passing
from tests.wit_types import (
    BOOL,
    F64,
    S32,
    STRING,
    U8,
    Enum,
    Flags,
    List,
    Option,
    Record,
    Tuple,
    Type,
    Variant,
)

ECHO = {"path": "/usr/bin/jq", "fixed": ["-c", "--unbuffered", ".args[0]"]}
PERSON = Record((("first-name", STRING), ("age", S32), ("tall", BOOL), ("notes", Option(STRING))), "person")
SHAPE = Variant((("circle", F64), ("square", Tuple((S32, S32))), ("none-at-all", None)), "shape")

VALUES: list[tuple[Type, list[Any]]] = [
    (STRING, ["", 'héllo \n\t"\\ \x00']),
    (S32, [0, -(2**31)]),
    (F64, [0.5, -1e300]),
    (List(U8), [b"", bytes(range(256))]),
    (List(STRING), [[], ["a", "b"]]),
    (Tuple((STRING, S32)), [("a", 1)]),
    (Option(STRING), [None, "x"]),
    (PERSON, [{"first_name": "Ada", "age": 36, "tall": True, "notes": None}]),
    (SHAPE, [("circle", 1.5), ("square", (1, 2)), "none-at-all"]),
    (List(SHAPE), [[("circle", 1.5), "none-at-all"]]),
    (Enum(("red", "dark-blue"), "colour"), ["red", "dark-blue"]),
    (Flags(("a", "b-c"), "marks"), [0, 1, 3]),
]


def shim(program: dict[str, Any], protocol: str, **more: Any) -> Shim:
    return Shim(config={"program": program, "protocol": protocol} | more)


async def ask(provider: Any, t: Type, *values: Any) -> list[Any]:
    """What a component gets for values that it passes on."""
    async with loop.Host() as host:
        app = await host.load(passing(t, HOST, API).wasm(), imports={HOST: provider})
        return [await app.call("echo", value) for value in values]


async def test_lines_by_sed() -> None:
    sed = shim({"path": "/usr/bin/sed", "fixed": ["-u", "s/a/b/"]}, "lines")
    assert await ask(sed, STRING, "banana", "", "x" * 1_000_000) == ["bbnana", "", "x" * 1_000_000]


async def test_lines_of_bytes() -> None:
    sed = shim({"path": "/usr/bin/sed", "fixed": ["-u", "s/a/b/"], "set": {"LC_ALL": "C"}}, "lines")
    assert await ask(sed, List(U8), b"a\xff") == [b"b\xff"]


async def test_the_whole_of_sort() -> None:
    assert await ask(shim({"path": "/usr/bin/sort"}, "whole"), STRING, "b\na\n", "") == ["a\nb\n", ""]


@pytest.mark.parametrize(("t", "values"), VALUES, ids=str)
async def test_every_type_as_json_by_jq(t: Type, values: list[Any]) -> None:
    """What the component is given back is what it sent: read by a provider in Python both times."""
    seen: list[Any] = []

    class Twice:
        def __init__(self) -> None:
            self.jq = shim(ECHO, "json")

        async def echo(self, value: Any) -> Any:
            answer = await self.jq.echo(value)
            seen.append(value)
            return answer

    for value, answer in zip(values, await ask(Twice(), t, *values), strict=True):
        assert answer == seen.pop(0), value


async def test_a_program_keeps_what_it_knows_between_calls() -> None:
    script = (
        "import json, sys\n"
        "n = 0\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    n += asked['args'][0]\n"
        "    print(json.dumps({'ok': n}), flush=True)\n"
    )
    program = {"path": sys.executable, "fixed": ["-Sc", script], "read": [str(Path(sys.base_prefix))]}
    program["path"] = str(Path(sys.executable).resolve())
    assert await ask(shim(program, "json"), S32, 1, 2, 39) == [1, 3, 42]


async def test_a_program_that_ends_or_is_late_is_started_anew() -> None:
    once = shim({"path": "/bin/sh", "fixed": ["-c", "read line; echo $line; echo why >&2; exit 3"]}, "lines")
    assert await once.echo("a") == "a"
    with pytest.raises(RuntimeError, match="the program exited with 3 before it answered: why"):
        await once.echo("b")
    assert await once.echo("c") == "c"
    silent = shim({"path": "/bin/sh", "fixed": ["-c", "read line"]}, "lines")
    with pytest.raises(RuntimeError, match="exited with 0 before it answered"):
        await silent.echo("a")
    late = shim({"path": "/bin/sh", "fixed": ["-c", "read a; read b"]}, "lines", timeout=0.05)
    with pytest.raises(RuntimeError, match=r"did not answer within 0\.05 s"):
        await late.echo("a")
    wrong = shim({"path": "/bin/sh", "fixed": ["-c", "read line; echo '{'"]}, "json")
    with pytest.raises(RuntimeError, match="is not JSON"):
        await wrong.echo("a")


async def test_failures_are_errors_of_the_function() -> None:
    failing = shim({"path": "/bin/sh", "fixed": ["-c", "echo no >&2; exit 2"]}, "whole")
    with pytest.raises(loop.Err) as caught:
        await failing.get("a")
    assert caught.value.value == "no"
    typed = shim({"path": "/usr/bin/jq", "fixed": ["-c", "--unbuffered", '{err: "not-found"}']}, "json")
    with pytest.raises(loop.Err) as caught:
        await typed.get("a")
    assert caught.value.value == "not-found"


async def test_it_is_held_as_a_program_of_a_grant_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    script = "read line; read x < file; echo $x; /bin/echo no"
    cat = shim({"path": "/bin/sh", "fixed": ["-c", script], "confine": "require"}, "lines", cwd=str(tmp_path))
    assert await cat.get("") == "here"
    with pytest.raises(RuntimeError, match=r"before it answered: .*ermission denied"):
        await cat.get("")


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, r"config\.program: missing the `path`"),
        ({"programm": {}}, r"did you mean `program`"),
        ({"program": {"path": "/bin/sh", "args": []}}, r"config\.program\.args: .*`fixed`|as \"fixed\""),
        ({"program": {"path": "/bin/sh"}, "protocol": "line"}, "must be one of lines, json, whole"),
        ({"program": {"path": "/bin/sh"}, "timeout": "soon"}, r"config\.timeout"),
    ],
)
def test_a_config_that_does_not_do(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Shim(config=config)


async def test_what_a_protocol_cannot_say() -> None:
    sed = shim({"path": "/usr/bin/sed", "fixed": ["-u", ""]}, "lines")
    with pytest.raises(ValueError, match="two lines"):
        await sed.get("a\nb")
    with pytest.raises(TypeError, match="use `json`"):
        await sed.get(1)
