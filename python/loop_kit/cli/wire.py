"""`loop wire`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from loop_kit.cli._output import examples, json_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from loop_kit._core import WireType

_TYPES = (
    *("bool", "u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "char", "string"),
    *("list<u8>", "list<", "tuple<", "option<", "result<", "record", "variant", "enum", "flags"),
)


def _complete_type(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in _TYPES if name.startswith(incomplete)]


_F = TypeVar("_F", bound=Callable[..., Any])


def _type_argument(command: _F) -> _F:
    return click.argument("wit_type", metavar="TYPE", shell_complete=_complete_type)(command)


@click.group(
    epilog=examples(
        ("loop wire encode 'list<u32>' '[1, 300]'", "the bytes of a value, in hex"),
        ("loop wire decode 'list<u32>' 0201ac02", "the value that bytes are"),
    )
)
def wire() -> None:
    """Turn values into the bytes of the wire, and back.

    They are how values travel between processes. A type is written as in WIT; a record, variant, enum or flags
    stands in place: 'record { x: u32, y: u32 }'.
    """


@wire.command(
    epilog=examples(
        ("loop wire encode 'list<u32>' '[1, 300]'", "0201ac02"),
        ("loop wire encode 'record { x: u32 }' '{x: 1}'", "a type with a name is written out"),
        ("loop wire encode string '\"hi\"' --binary > hi.bin", "the bytes as they are"),
    )
)
@_type_argument
@click.argument("value")
@click.option("--binary", is_flag=True, help="Print the bytes as they are.")
@json_option
def encode(wit_type: str, value: str, binary: bool, as_json: bool) -> None:
    """Print the bytes of a value.

    TYPE is a WIT type, VALUE is written in WAVE as the arguments of `loop call` are: 1, "text", [1, 2],
    {field: 1}, some(1), err("why"). Handles have no text.
    """
    if binary and as_json:
        raise click.UsageError("--binary and --json exclude each other")
    made = _type(wit_type)
    try:
        data = made.encode(made.parse(value))
    except ValueError as e:
        raise click.UsageError(f"VALUE is no {wit_type}: {e}") from None
    if binary:
        sys.stdout.buffer.write(data)
    else:
        click.echo(json.dumps({"bytes": data.hex()}) if as_json else data.hex())


@wire.command(
    epilog=examples(
        ("loop wire decode 'list<u32>' 0201ac02", "[1, 300]"),
        ("loop wire decode 'list<u32>' '02 01 ac 02' --json", "spaces do not matter"),
        ("loop wire decode string --binary < hi.bin", "the bytes as they are"),
    )
)
@_type_argument
@click.argument("hex_bytes", metavar="[HEX]", required=False)
@click.option("--binary", is_flag=True, help="Read the bytes from stdin as they are.")
@json_option
def decode(wit_type: str, hex_bytes: str | None, binary: bool, as_json: bool) -> None:
    """Print the value that bytes are.

    TYPE is a WIT type, HEX the bytes; without them they are read from stdin. The value is printed in WAVE. Handles
    have no text but in JSON. Exits with 1 where the bytes are no such value, and says at which byte.
    """
    made = _type(wit_type)
    if hex_bytes is not None and binary:
        raise click.UsageError("--binary reads stdin: leave HEX out")
    value = made.decode(_bytes(hex_bytes, binary, sys.stdin.buffer))
    if as_json:
        from loop_kit.cli.call import plain

        click.echo(json.dumps({"value": plain(value)}))
        return
    try:
        click.echo(made.format(value))
    except ValueError as e:
        raise click.UsageError(f"{e}; --json prints it") from None


def _type(text: str) -> WireType:
    from loop_kit.errors import WireError
    from loop_kit.wire import _type as wire_type

    try:
        return wire_type(text)
    except WireError as e:
        raise click.UsageError(f"TYPE: {e}") from None


def _bytes(text: str | None, binary: bool, stdin: BinaryIO) -> bytes:
    if binary:
        return stdin.read()
    try:
        return bytes.fromhex(stdin.read().decode() if text is None else text)
    except ValueError as e:
        raise click.UsageError(f"HEX is not hexadecimal: {e}") from None
