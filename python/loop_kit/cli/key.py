"""`loop key`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong

if TYPE_CHECKING:
    from loop_kit.trust._keyring import Held

__all__ = ["complete_key", "key", "passphrase_option"]


def complete_key(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a key."""
    from loop_kit.trust._keyring import Keyring

    names = sorted(path.stem for path in Keyring().folder.glob("*.pub"))
    return [name for name in names if name.startswith(incomplete)]


passphrase_option = click.option(
    "--passphrase-file",
    "passphrase",
    type=click.Path(path_type=Path),
    help="File with the passphrase that locks the key.  [default: the environment's LOOP_KEY_PASSPHRASE]",
)


@click.group(
    epilog=examples(
        ("loop key new acme", "a key of your own, to sign with"),
        ("loop key ls", "what is there"),
        ("loop key show acme", "what others need to trust it"),
        ("loop key import partner.pub --name partner", "a key of somebody else"),
    )
)
def key() -> None:
    """Make and show the keys that sign what you ship.

    A key has two halves, of Ed25519: NAME.key signs and is yours alone, NAME.pub is for everybody who is to trust it.
    Both lie in the configuration folder, ~/.config/loop-kit/keys, or where LOOP_KEYS says.
    """


@key.command(
    epilog=examples(
        ("loop key new acme", ""),
        (
            "loop key new acme --passphrase-file ~/.acme-passphrase",
            "locked, so that the file alone is no use",
        ),
    )
)
@click.argument("name")
@passphrase_option
@json_option
def new(name: str, passphrase: Path | None, as_json: bool) -> None:
    """Make a key, and print what a loop.toml says to trust it."""
    from loop_kit.trust._keyring import Keyring, passphrase_of

    _print(Keyring().new(name, passphrase_of(passphrase)), as_json, made=True)


@key.command("import", epilog=examples(("loop key import partner.pub --name partner", "")))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it.  [default: the file's name]")
@passphrase_option
@json_option
def import_(file: Path, name: str | None, passphrase: Path | None, as_json: bool) -> None:
    """Take in a key from a file of PEM, public or private (PKCS #8)."""
    from loop_kit.trust._keyring import Keyring, passphrase_of

    _print(Keyring().add(name or file.stem, file, passphrase_of(passphrase)), as_json, made=True)


@key.command(
    epilog=examples(("loop key show acme", ""), ("loop key show acme --json | jq -r .pem > acme.pub", ""))
)
@click.argument("name", shell_complete=complete_key)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the public half of a key."""
    from loop_kit.trust._keyring import Keyring

    _print(Keyring().get(name), as_json, made=False)


@key.command("ls", epilog=examples(("loop key ls", ""), ("loop key ls --json | jq -r '.keys[].id'", "")))
@json_option
def ls(as_json: bool) -> None:
    """List the keys that are there."""
    from loop_kit.trust._keyring import Keyring

    ring = Keyring()
    found = ring.all()
    if as_json:
        print_json({"folder": ring.folder, "keys": [_said(held) for held in found]})
        return
    if not found:
        click.echo(f"There are no keys in {ring.folder}; `loop key new NAME` makes one.")
    width = max((len(held.name) for held in found), default=0)
    for held in found:
        what = good("signs") if held.file else dim("is somebody else's")
        click.echo(f"{strong(f'{held.name:<{width}}')}  {held.public.id}  {what}")


def _said(held: Held) -> dict[str, Any]:
    public = held.public
    return {
        "name": held.name,
        "id": public.id,
        "key": public.line,
        "pem": public.pem,
        "signs": held.file is not None,
    }


def _print(held: Held, as_json: bool, *, made: bool) -> None:
    if as_json:
        print_json(_said(held))
        return
    click.echo(f"{strong(held.name)}  {held.public.id}")
    if made and held.file is not None:
        click.echo(f"signs with {held.file}, which is yours alone: keep a copy where nobody else comes")
    from loop_kit.manifest._toml import key as quoted

    click.echo(f'\nTo trust it, in loop.toml:\n\n[trust.signers]\n{quoted(held.name)} = "{held.public.line}"')
