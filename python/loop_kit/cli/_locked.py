"""What commands share that run or fetch artifacts: their options, and telling how far it is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loop_kit.cli._artifacts import amount
from loop_kit.cli._progress import Progress

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest
    from loop_kit.store.workspace import Tell

__all__ = ["CODE", "fetched", "fetching", "lock_options", "made_ready", "trust_option"]

_F = TypeVar("_F", bound=Callable[..., Any])
T = TypeVar("T")


def lock_options(command: _F) -> _F:
    """Adds `--locked` and `--offline`, which arrive by these names."""
    locked = click.option(
        "--locked", is_flag=True, help="Refuse artifacts that loop.lock does not pin, and do not change it."
    )
    offline = click.option(
        "--offline", is_flag=True, help="Use no network for artifacts: take what the store has."
    )
    return locked(offline(command))


def trust_option(command: _F) -> _F:
    """Adds `--trust`, which arrives as `policy`."""
    return click.option(
        "--trust",
        "policy",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="A policy, a file with [trust], by which alone something is loaded that is no workspace.  "
        "[default: your own trust.toml, if there is one]",
    )(command)


class _Code(click.Path):
    """A file that is there, or the name of an artifact."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if str(value).startswith(_SCHEMES) else super().convert(value, param, ctx)


_SCHEMES = ("oci:", "oci-layout:")
CODE = _Code(exists=True)


def fetched(target: str, *, locked: bool, offline: bool, policy: Path | None = None) -> bytes | str:
    """What a command line names: the path of a file, or the checked bytes of a component that is an artifact.

    Args:
        target: What it names.
        locked: Refuse a tag.
        offline: Ask nobody.
        policy: The file of the policy by which it is judged; None: that of the user, if there is one.

    Raises:
        Untrusted: The policy does not let it be loaded.
        ManifestError: The policy cannot be read.
        PackageError: It must not be fetched, or cannot be.
    """
    from loop_kit.trust import own_gate

    gate = own_gate(policy)
    if not target.startswith(_SCHEMES):
        if locked or offline:
            raise click.UsageError(
                "--locked and --offline are of artifacts, and of workspaces that have some"
            )
        gate.local(target)
        return target
    from loop_kit.store.alone import code

    return fetching(
        lambda tell: code(target, Path.cwd(), locked=locked, offline=offline, tell=tell, gate=gate)
    )


def fetching(work: Callable[[Tell], Coroutine[Any, Any, T]]) -> T:
    """Does what may fetch, and says how far it is where it takes longer."""
    import asyncio

    from loop_kit.store.workspace import Tell

    come = of = 0
    with Progress() as progress:

        def more(bytes_: int) -> None:
            nonlocal of
            of += bytes_

        def came(bytes_: int) -> None:
            nonlocal come
            come += bytes_
            progress.at(f"fetching: {amount(max(0, come))} of {amount(of)} …")

        def begun(name: str, reference: str) -> None:
            progress.at(f"asking for {reference} …")

        return asyncio.run(work(Tell(begun, more, came)))


def made_ready(manifest: Manifest, *, locked: bool, offline: bool) -> Manifest:
    """A workspace whose artifacts are all in the store, as `loop.lock` has them; what is missing is fetched.

    Raises:
        PackageError: Something must not be fetched, or cannot be.
    """
    from loop_kit.store.workspace import ready, wanted

    if not wanted(manifest) and not locked:
        return manifest
    return fetching(lambda tell: ready(manifest, locked=locked, offline=offline, tell=tell))
