"""Every type, at its bounds."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

from loop_kit import Err, Ok, Some
from loop_kit.cli.call import plain
from loop_kit.conform._scene import Scene, case, expect

__all__: list[str] = []

_SAME = object()


def _echo(function: str, what: str, values: Iterable[Any], wanted: Any = _SAME) -> None:
    """Adds a case that sends each value and gets it back; `wanted` says how, where that is not as it was sent."""
    sent = list(values)
    back = sent if wanted is _SAME else list(wanted)

    async def run(scene: Scene) -> None:
        for value, same in zip(sent, back, strict=True):
            got = plain(await scene.call(f"values#echo-{function}", value))
            expect(_exact(got), _exact(plain(same)), f"echo-{function}")

    case("values", what)(run)


def _exact(value: Any) -> Any:
    """-0.0 and 0.0 are not the same here."""
    return str(value) if isinstance(value, float) else value


def _integers(bits: int, signed: bool) -> list[int]:
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    near = {sign * (1 << k) + d for k in range(bits + 1) for d in (-1, 0, 1) for sign in (1, -1)}
    return sorted(n for n in near if least <= n <= most)


_TEXTS = ["", "a", "\0", "Grüße", "日本語", "🦀" * 40, "x" * 127, "x" * 128, "é" * 20_000]
_FLOATS = [0.0, -0.0, 1.5, -2.25, math.inf, -math.inf, math.nan]

_echo("bool", "bool", [False, True])
for _bits in (8, 16, 32, 64):
    _echo(f"u{_bits}", f"u{_bits} at its bounds", _integers(_bits, False))
    _echo(f"s{_bits}", f"s{_bits} at its bounds", _integers(_bits, True))
_echo("f32", "f32, with zeros, infinities and NaN", [*_FLOATS, 2.0**-149, (2 - 2.0**-23) * 2.0**127])
_echo("f64", "f64, with zeros, infinities and NaN", [*_FLOATS, 5e-324, 1.7976931348623157e308, 0.1])
_echo("char", "char of one to four bytes", "a\0\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff")
_echo("string", "string, empty, long and of all planes", _TEXTS)
_echo(
    "bytes",
    "list<u8> of many lengths",
    [bytes(n) for n in (0, 1, 127, 128, 16_383, 16_384)] + [bytes(range(256))],
)
_echo("numbers", "list<u32>", [[], _integers(32, False), list(range(5000))])
_echo("doubles", "list<f64>", [[], [0.5, -1.25], [float(i) for i in range(5000)]])
_echo("strings", "list<string>", [[], _TEXTS])
_echo("fixed", "a list of fixed length", [[0, 128, 65_535]])
_echo("tuple", "tuple", [(0, "", (False,)), (255, "ü", (True,))])
_POINTS = [{"x": -(2**31), "y_axis": None}, {"x": 2**31 - 1, "y_axis": 0.5}]
_echo("point", "record", _POINTS)
_echo(
    "shape",
    "variant, each of its cases",
    ["dot", ("circle", 1.5), ("polygon", []), ("polygon", _POINTS)],
    ["dot", {"circle": 1.5}, {"polygon": []}, {"polygon": _POINTS}],
)
_echo("color", "enum", ["red", "dark-green", "blue"])
_RIGHTS = ["read", "write", "execute"]
_NINE = [0, 1, 0x80, 0x100, 0x1FF]


def _set(names: Sequence[str], bits: int) -> list[str]:
    return [name for i, name in enumerate(names) if bits >> i & 1]


_echo("rights", "flags, each set of them", range(8), [_set(_RIGHTS, bits) for bits in range(8)])
_echo("nine", "flags of two bytes", _NINE, [_set([f"f{i}" for i in range(9)], bits) for bits in _NINE])
_echo("option", "option", [None, 0, 2**32 - 1])
_echo("nested", "option within option", [None, Some(None), Some("x")])
_echo("results", "result with two payloads", [[], [Ok(7), Err("no"), Err("")]])
_echo(
    "units",
    "result with one payload, or none",
    [(Ok(1), Ok(None), Ok(None)), (Err(None), Err(2), Err(None))],
)


def _everything(seed: int) -> dict[str, Any]:
    some = random.Random(seed)
    shapes = ["dot", ("circle", 0.25), ("polygon", _POINTS[: seed % 3])]
    return {
        "id": some.randrange(2**64),
        "name": some.choice(_TEXTS[:7]),
        "where": (_POINTS[seed % 2], shapes[seed % 3]),
        "color": ["red", "dark-green", "blue"][seed % 3],
        "rights": seed % 8,
        "tags": [(f"tag {i}", None if i % 2 else i) for i in range(seed % 5)],
        "outcome": Ok(bytes([seed % 256] * seed)) if seed % 2 else Err(f"nothing {seed}"),
    }


def _back(sent: dict[str, Any]) -> dict[str, Any]:
    point, shape = sent["where"]
    shape = {shape[0]: shape[1]} if isinstance(shape, tuple) else shape
    return {**sent, "where": (point, shape), "rights": _set(_RIGHTS, sent["rights"])}


@case("values", "records of all of these, in a list")
async def _(scene: Scene) -> None:
    sent = [_everything(seed) for seed in range(200)]
    got = plain(await scene.call("values#echo-everything", sent))
    wanted = [{k: plain(v) for k, v in _back(one).items()} for one in sent]
    for got_one, wanted_one in zip(got, wanted, strict=True):
        expect(got_one, wanted_one, "echo-everything")


@case("values", "no parameters and no result, and two parameters")
async def _(scene: Scene) -> None:
    expect(await scene.call("values#nothing"), None, "nothing")
    expect(await scene.call("values#two", 2**32 - 1, "n = "), "n = 4294967295", "two")


@case("values", "a payload of 64 MiB")
async def _(scene: Scene) -> None:
    block = random.Random(64).randbytes(1 << 20)
    data = block * 64
    got = await scene.call("values#echo-bytes", data)
    expect((len(got), bytes(got) == data), (64 << 20, True), "length, and whether all bytes are the same")
