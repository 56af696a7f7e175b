"""`loop wash`."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop_kit.cli._output import dim, examples, json_option, print_json, strong
from loop_kit.cli._workspace import complete_component, manifest_option
from loop_kit.errors import LoopError, ManifestError

if TYPE_CHECKING:
    from loop_kit.manifest import Component, Manifest

TESTED = "0.43.0"
"""The version of wash that the tests run."""

WIT = "WASMCLOUD_WIT"
WORLD = "WASMCLOUD_COMPONENT.WIT_WORLD"
REGISTRY = "WASH_REG_URL"
"""What wash reads: the keys `wit` and `component.wit_world` of wasmcloud.toml, and `--registry`.

No shell can write the name with the dot, but wash takes it: after the prefix it is the path of a key.
"""

# wash would show a login to whichever registry is named to it; these are for one alone.
_KEPT_BACK = ("LOOP_REGISTRY_USER", "LOOP_REGISTRY_PASSWORD")


@dataclass(frozen=True, slots=True)
class Given:
    """What wash is given of a workspace.

    Attributes:
        values: Variables of the environment.
        component: The component whose world it is, or None.
        why: Why there is no world, or no WIT; "" if there is.
    """

    values: dict[str, str]
    component: str | None
    why: str


@click.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    epilog=examples(
        ("loop wash", "which wash it is, and what it is given"),
        ("loop wash build", "build the project of wasmcloud.toml, with the component's WIT and world"),
        ("loop wash push site:1.0.0 build/site_s.wasm", "to the workspace's registry"),
        ("loop wash pull localhost:5000/acme/site:1.0.0 --insecure", "from one that is named"),
        ("loop wash --component api build", "with the world of another component"),
        ("loop wash push --help", "all after its name is wash's own"),
    ),
)
@click.option(
    "--wash",
    "program",
    envvar="LOOP_WASH",
    metavar="PATH",
    help="The program.  [default: LOOP_WASH, or `wash` in PATH]",
)
@click.option(
    "--component",
    metavar="NAME",
    shell_complete=complete_component,
    help="Whose world it is.  [default: the one whose folder this is, or the only one]",
)
@manifest_option
@json_option
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def wash(
    program: str | None,
    component: str | None,
    manifest_path: Path | None,
    as_json: bool,
    args: tuple[str, ...],
) -> None:
    """Run `wash` with the world and registry of the workspace.

    wash is wasmCloud's shell: arguments, streams, signals and the exit code are its own. It is told of a component's WIT
    and world, as if its wasmcloud.toml named them, and of `registry` in [workspace] of loop.toml; what is set already
    stays as it is. Logins are those of `docker login`, which wash reads by itself.
    """
    if as_json and args:
        raise click.UsageError("--json shows what wash is given; `loop wash --output json …` is wash's own")
    place = _find(program)
    manifest = _manifest(manifest_path)
    if component is not None and (manifest is None or component not in manifest.components):
        known = ", ".join(manifest.components if manifest else ()) or "none"
        raise click.UsageError(f"there is no component {component!r}; there are: {known}")
    given = Given({}, None, "there is no loop.toml") if manifest is None else _given(manifest, component)
    if not args:
        _show(place, given, as_json)
        return
    env = {name: value for name, value in os.environ.items() if name not in _KEPT_BACK}
    # Python ignores it, and so would what it turns into.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execve(place, ["wash", *args], given.values | env)


def _find(named: str | None) -> str:
    place = shutil.which(named or "wash")
    if place is not None:
        return place
    error = LoopError(f"there is no program {named!r}" if named else "there is no `wash` in PATH")
    error.hint = (
        f"`cargo install --locked wash@{TESTED}` installs the version that loop-kit is tested with; "
        "--wash PATH, or LOOP_WASH, names one that is elsewhere"
    )
    raise error


def _manifest(path: Path | None) -> Manifest | None:
    """The workspace, or None where there is none: much of wash needs no workspace."""
    from loop_kit.manifest import find, load

    if path is not None:
        return load(path)
    try:
        file = find()
    except ManifestError:
        return None
    return load(file)


def _given(manifest: Manifest, name: str | None) -> Given:
    from loop_kit.bind import worlds
    from loop_kit.dev._bindings import wit_of

    values = {} if manifest.registry is None else {REGISTRY: manifest.registry}
    found = _component(manifest, name)
    if isinstance(found, str):
        return Given(values, None, found)
    wit = wit_of(found, manifest.folder)
    if not wit.is_dir():
        return Given(values, found.name, f"there is no folder {wit}")
    values[WIT] = str(wit)
    world = found.bind.world if found.bind is not None else None
    if world is None:
        try:
            known = worlds(wit)
        except (LoopError, OSError) as error:
            return Given(values, found.name, str(error))
        if len(known) != 1:
            said = ", ".join(known) or "none"
            return Given(values, found.name, f"which world is meant? {wit} has {said}: `bind.world` says it")
        world = known[0]
    values[WORLD] = world
    return Given(values, found.name, "")


def _component(manifest: Manifest, name: str | None) -> Component | str:
    """The component that is meant, or why it is not known."""
    from loop_kit.dev._bindings import wit_of

    if name is not None:
        return manifest.components[name]
    own: dict[Path, list[Component]] = {}
    for one in manifest.components.values():
        wit = wit_of(one, manifest.folder)
        if one.artifact is None and wit.is_dir():
            own.setdefault(wit.parent.resolve(), []).append(one)
    found = [one for those in own.values() for one in those]
    here = Path.cwd()
    for folder in (here, *here.parents) if here.is_relative_to(manifest.folder) else ():
        if folder in own:
            found = own[folder]
            break
        if (folder / "wit").is_dir():
            return f"the WIT in {folder} is no component's"
        if folder == manifest.folder:
            break
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.name for one in found)
    return f"--component says whose it is: {names}" if found else "no component has WIT of its own"


def _show(place: str, given: Given, as_json: bool) -> None:
    shown = {name: os.environ.get(name) is None for name in given.values}
    if as_json:
        print_json(
            {
                "program": place,
                "component": given.component,
                "given": {name: value for name, value in given.values.items() if shown[name]},
                "yours": [name for name, ours in shown.items() if not ours],
                "why": given.why or None,
            }
        )
        return
    click.echo(strong(place))
    width = max(map(len, given.values), default=0)
    for name, value in given.values.items():
        click.echo(f"  {name:<{width}}  {value if shown[name] else dim('is set already, and stays')}")
    if given.why:
        click.echo(dim(f"  no world is given: {given.why}"))
