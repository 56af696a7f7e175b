"""`loop registry`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loop_kit.cli._artifacts import amount
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.errors import PackageError

if TYPE_CHECKING:
    from loop_kit.registry import Api, Bounds, Content
    from loop_kit.registry._asked import Change

_F = TypeVar("_F", bound=Callable[..., Any])
_FILE = click.Path(dir_okay=False, path_type=Path)


def _place(command: _F) -> _F:
    """Adds `--folder` and `--store`."""
    folder = click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="What it keeps is here.  [default: ~/.local/share/loop-kit/registry]",
    )
    store = click.option(
        "--store",
        "in_store",
        is_flag=True,
        help="Keep it in the user's store, with what `loop pull` fetches.",
    )
    return folder(store(command))


def _size(_: click.Context, __: click.Parameter, text: str) -> int:
    from loop_kit._units import parse_size

    try:
        return parse_size(int(text) if text.isdigit() else text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Completes a repository of the folder that is named before it."""
    try:
        folder, in_store = ctx.params.get("folder"), bool(ctx.params.get("in_store"))
        found = _content(folder, in_store, None, lambda text: None).repositories()
        return [name for name in found if name.startswith(incomplete)]
    except Exception:
        return []  # the shell has nowhere to show an error


@click.group(
    epilog=examples(
        ("loop registry serve", "at 127.0.0.1:5000, for this machine"),
        ("loop push kv 127.0.0.1:5000/acme/kv:1.0", "into it; docker, oras and wkg can, too"),
        ("loop mirror registry.example/acme/kv oci-layout:stick", "with a network: onto a stick,"),
        ("loop mirror oci-layout:stick 127.0.0.1:5000", "… and where there is none: from there"),
        ("loop registry ls", "what is in it"),
    )
)
def registry() -> None:
    """Serve a registry of your own.

    It is for development, and for sites without a network, and speaks the distribution API of OCI 1.1: whatever pushes
    to a registry, or pulls from one, can use it. What is pushed is kept in one folder, each blob once, and survives
    whatever happens to the server.
    """


@registry.command(
    epilog=examples(
        ("loop registry serve", "whoever is on this machine may read and write"),
        ("loop registry serve --listen 127.0.0.1:0 --folder /srv/registry", "any free port, another folder"),
        ("loop registry serve --store --read-only", "what is in the user's store, for reading"),
        ("loop registry user ada --users users", "somebody who may write"),
        ("loop mirror oci-layout:stick registry.lan", "fills it from a folder that was carried there"),
        ("loop registry serve --listen 0.0.0.0:443 --tls-cert lan.pem --tls-key lan.key --users users", ""),
    )
)
@_place
@click.option(
    "--listen",
    default="127.0.0.1:5000",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where. Addresses of others than this machine want --tls-cert and --users.",
)
@click.option("--tls-cert", "certificate", type=_FILE, help="Certificates, a PEM file: it speaks TLS.")
@click.option("--tls-key", "key", type=_FILE, help="Their key, a PEM file.")
@click.option("--users", type=_FILE, help="Who may log in; `loop registry user` writes this file.")
@click.option("--anonymous-read", is_flag=True, help="With --users: reading wants no login.")
@click.option("--delete", is_flag=True, help="Let clients delete tags, manifests and blobs.")
@click.option("--read-only", is_flag=True, help="Let nobody change anything.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="Without TLS: a name that it is asked by."
)
@click.option(
    "--max-total", metavar="SIZE", default="64GiB", show_default=True, callback=_size, help="All of it."
)
@click.option(
    "--max-blob", metavar="SIZE", default="16GiB", show_default=True, callback=_size, help="One blob."
)
@click.option(
    "--insecure-open-to-the-network",
    "insecure",
    is_flag=True,
    help="Listen for others without TLS or login: whoever reaches it can read and write, and read what others send.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document in a line for each thing said."
)
def serve(
    folder: Path | None,
    in_store: bool,
    listen: str,
    certificate: Path | None,
    key: Path | None,
    users: Path | None,
    anonymous_read: bool,
    delete: bool,
    read_only: bool,
    names: tuple[str, ...],
    max_total: int,
    max_blob: int,
    insecure: bool,
    as_json: bool,
) -> None:
    """Serve a registry until Ctrl-C.

    It is for this machine alone unless --listen says otherwise. The first Ctrl-C, or SIGTERM, lets what is being
    sent end, up to a minute; the second does not. An upload that is broken off goes on when it is served again, and is
    given up a day after its begin; so is a blob that no manifest names.
    """
    from loop_kit.registry import Api, Bounds, Users
    from loop_kit.registry._api import Access

    address, local = _address(listen)
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if not local and not insecure and (certificate is None or users is None):
        missing = " and ".join(
            option
            for option, there in (("--tls-cert with --tls-key", certificate), ("--users", users))
            if there is None
        )
        raise click.UsageError(f"{listen} is open to other machines: that wants {missing}")
    if anonymous_read and users is None:
        raise click.UsageError("--anonymous-read goes with --users: without it nobody logs in at all")

    def tell(text: str) -> None:
        click.echo(f"{warn('warning:')} {text}", err=True)

    content = _content(folder, in_store, Bounds(total=max_total, blob=max_blob), tell)
    access = Access(
        Users(users) if users is not None else None,
        anonymous_read,
        delete,
        read_only,
        frozenset(map(str.lower, names)),
    )
    api = Api(content, access, told=lambda change: _changed(change, as_json), tell=tell)
    with content.opened():
        asyncio.run(_serve(api, address, certificate, key, names, as_json, tell))


def _address(listen: str) -> tuple[str, bool]:
    """An address with its port, and whether it is this machine's alone."""
    import ipaddress

    host, colon, port = listen.rpartition(":")
    host = {"localhost": "127.0.0.1"}.get(host, host)
    try:
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if (found.version == 6) != host.startswith("["):
            raise ValueError
    except ValueError:
        raise click.UsageError(
            f"--listen {listen!r} is no address with a port, such as 127.0.0.1:5000, [::1]:0 or 0.0.0.0:443"
        ) from None
    return f"{host}:{port}", found.is_loopback


def _content(
    folder: Path | None, in_store: bool, bounds: Bounds | None, tell: Callable[[str], object]
) -> Content:
    from loop_kit.registry import Content, default
    from loop_kit.store import Store

    if folder is not None and in_store:
        raise click.UsageError("--folder and --store are two places: say one")
    return Content(Store(None if in_store else folder or default()), bounds, own=not in_store, tell=tell)


async def _serve(
    api: Api,
    address: str,
    certificate: Path | None,
    key: Path | None,
    names: tuple[str, ...],
    as_json: bool,
    tell: Callable[[str], object],
) -> None:
    from loop_kit.registry import serving

    stop, now = asyncio.Event(), asyncio.Event()

    def asked() -> None:
        if not stop.is_set():
            stop.set()
            return
        now.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    async with serving(api, address, certificate=certificate, key=key, tell=tell) as server:
        scheme = "https" if certificate is not None else "http"
        host = f"{names[0]}:{server.address.rpartition(':')[2]}" if names else server.address
        if as_json:
            said = {"address": host, "url": f"{scheme}://{host}/", "folder": str(api.content.store.folder)}
            click.echo(json.dumps(said))
        else:
            click.echo(f"{strong('registry')} at {scheme}://{host}/  {dim('(Ctrl-C stops)')}")
            click.echo(dim(f"names in it are {host}/REPOSITORY:TAG; all is in {api.content.store.folder}"))
        await server.stopped(stop, now)


def _changed(change: Change, as_json: bool) -> None:
    if as_json:
        said = {"what": change.what, "name": change.name, "digest": change.digest, "user": change.user}
        click.echo(json.dumps(said))
        return
    mark = good("+") if change.what == "pushed" else click.style("-", fg="red")
    digest = change.digest if change.digest not in change.name else ""
    by = f"by {change.user}" if change.user else ""
    click.echo(f"{mark} {strong(change.name)}  {dim(f'{digest} {by}'.strip())}".rstrip())


@registry.command(
    epilog=examples(
        ("loop registry ls", "all repositories and tags"),
        ("loop registry ls acme/site", "of one repository"),
        ("loop registry ls --json | jq -r '.repositories[].name'", "names alone"),
    )
)
@click.argument("repositories", nargs=-1, metavar="[REPOSITORY...]", shell_complete=_complete)
@_place
@json_option
def ls(repositories: tuple[str, ...], folder: Path | None, in_store: bool, as_json: bool) -> None:
    """Show what a registry has, whether it is being served or not."""
    content = _content(folder, in_store, None, lambda text: None)
    there = list(content.repositories())
    if missing := [name for name in repositories if name not in there]:
        error = PackageError(f"{content.store.folder} has no repository {missing[0]!r}")
        error.hint = "`loop registry ls` shows their names"
        raise error
    found = [
        {"name": name, "tags": [_tagged(content, name, tag) for tag in content.tags(name)]}
        for name in repositories or there
    ]
    if as_json:
        print_json({"folder": content.store.folder, "repositories": found})
        return
    if not found:
        click.echo(f"{content.store.folder} has no repositories")
    for one in found:
        tags = one["tags"]
        assert isinstance(tags, list)
        for tag in tags:
            notes = [amount(tag["size"])] if tag["size"] is not None else ["it is gone"]
            notes += [f"{tag['referrers']} that refer to it"] if tag["referrers"] else []
            name = strong(f"{one['name']}:{tag['tag']}")
            click.echo(f"{name}  {tag['digest'] or ''}  {dim(', '.join(notes))}")
        if not tags:
            click.echo(f"{strong(str(one['name']))}  {dim('without a tag')}")


def _tagged(content: Content, repository: str, tag: str) -> dict[str, Any]:
    found = content.manifest(repository, tag)
    said: dict[str, Any] = {"tag": tag, "digest": None, "media-type": None, "size": None, "referrers": 0}
    if found is not None:
        said |= {
            "digest": found.digest,
            "media-type": found.media_type,
            "size": content.whole(repository, found),
        }
        said["referrers"] = sum(1 for _ in content.referrers(repository, found.digest))
    return said


@registry.command(
    epilog=examples(
        ("loop registry user ada --users users", "asks for a password; ada may read and write"),
        ("loop registry user ci --rights read --users users < password", "the password's first line"),
        ("loop registry user ada --remove --users users", ""),
        ("docker login 127.0.0.1:5000 -u ada", "… and so for loop, oras and wkg, too"),
    )
)
@click.argument("name")
@click.option("--users", type=_FILE, required=True, help="The file, which is made if it is not there.")
@click.option(
    "--rights",
    type=click.Choice(["read", "write"]),
    default="write",
    show_default=True,
    help="What the user may do; who may write may read.",
)
@click.option("--remove", is_flag=True, help="Take the user out.")
@json_option
def user(name: str, users: Path, rights: str, remove: bool, as_json: bool) -> None:
    """Write a user of a registry into a file, or give one a new password.

    The password is asked for, or is the first line of standard input. The file has a hash of it (scrypt), and a server
    that runs takes up what changes.
    """
    from loop_kit.registry import Users

    if remove:
        Users.remove(users, name)
        what = "removed"
    else:
        new = Users.set(users, name, "read" if rights == "read" else "write", _password())
        what = "added" if new else "changed"
    if as_json:
        print_json({"name": name, "what": what, "rights": None if remove else rights, "users": users})
    else:
        may = "" if remove else f"  {dim(f'may {rights}')}"
        click.echo(f"{good(what)} {strong(name)} in {users}{may}")


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline(1 << 16).rstrip("\r\n")
