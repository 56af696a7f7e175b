"""`loop restart`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli._hosts import ask, complete_member, running, unknown
from loop_kit.cli._output import examples, good, json_option, print_json, strong
from loop_kit.cli._workspace import manifest_option
from loop_kit.errors import LoopError

if TYPE_CHECKING:
    from loop_kit.peer import Peer


@click.command(
    epilog=examples(
        ("loop restart files", "the provider `files` of the nearest workspace, which runs"),
        ("loop restart -m examples/site files", "… of another one"),
    )
)
@manifest_option
@json_option
@click.argument("member", shell_complete=complete_member)
def restart(manifest_path: Path | None, as_json: bool, member: str) -> None:
    """End a member in good order and start it again.

    Calls of it fail meanwhile, with an error that says so; what runs in the host's own process is exchanged for itself,
    its code read anew, and no call fails. A sidecar that is no longer started by itself, since it
    failed over and over, gets another try; the session with a remote provider begins anew.
    """
    record = running(manifest_path)
    generation = ask(record, lambda peer: _restart(peer, member))
    if as_json:
        print_json({"member": member, "generation": generation})
    else:
        click.echo(f"{strong(member)} {good('is ready')} (generation {generation})")


async def _restart(peer: Peer, member: str) -> Any:
    from loop_kit import Err

    try:
        await peer.call("loop:devserver/workspace#restart", member)
    except Err as error:
        failure: Any = error.value
        if failure.case == "unknown":
            raise unknown(member, failure.value) from None
        raise LoopError(f"{member} was not restarted: {failure.value}") from None
    members = await peer.call("loop:devserver/workspace#members")
    return next(one.generation for one in members if one.name == member)
