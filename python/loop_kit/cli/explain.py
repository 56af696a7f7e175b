"""`loop explain`."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.cli._workspace import complete_component, manifest_option, open_manifest
from loop_kit.errors import LoopError

if TYPE_CHECKING:
    from loop_kit.manifest import Artifact, Manifest
    from loop_kit.manifest.explain import ExplainedComponent, ExplainedImport
    from loop_kit.trust._members import Covered

__all__ = ["explain", "imports_of"]


def imports_of(path: Path) -> Sequence[str]:
    """Returns the names of a component's imports, in its own order.

    Raises:
        OSError: The file cannot be read.
        LoopError: It is not a component, or loop-kit is not fully installed.
    """
    try:
        inspect = importlib.import_module("loop_kit.inspect")
    except ImportError as error:
        raise LoopError(f"loop-kit is incomplete: {error}; `loop doctor` says what to do") from None
    names: Sequence[str] = inspect.imports(path)
    return names


@click.command(
    epilog=examples(
        ("loop explain", "every component of this workspace"),
        ("loop explain site", "one of them"),
        ("loop explain -m examples/site", "those of another workspace"),
        ("loop explain --diff", "what the changes since the last commit let components do"),
        ("loop explain --diff released.toml", "the same since another loop.toml"),
        ("loop explain --json | jq '.components[].imports[] | select(.trusted)'", ""),
    )
)
@click.argument("components", nargs=-1, shell_complete=complete_component)
@manifest_option
@click.option(
    "--diff",
    "since",
    is_flag=False,
    flag_value="HEAD",
    metavar="[FILE | REVISION]",
    help="Show what components may more, and less, than by another loop.toml, or that of a git revision "
    "(HEAD without a value).",
)
@json_option
@click.pass_context
def explain(
    ctx: click.Context,
    components: tuple[str, ...],
    manifest_path: Path | None,
    since: str | None,
    as_json: bool,
) -> None:
    """Show what a component may do, and who provides its imports.

    For each import: the provider, where it runs, what it may touch, and which key of loop.toml decided. For
    an import that nothing provides, and for a part of WASI that is closed: what to add to loop.toml. Nothing
    is built or started. Where loop.toml has [trust], or you have a policy of your own, it also says who must have
    signed what, and which of the two decides. Exits with 4 if a component could not be loaded as things are.
    """
    from loop_kit.manifest.explain import explain as explain_manifest

    manifest = open_manifest(manifest_path)
    if since is not None:
        _explain_difference(manifest, since, components, as_json)
        return
    explained = explain_manifest(manifest, imports_of, components)
    trusted = _covered(manifest, components)
    if as_json:
        document = {"manifest": manifest.path, "components": [_as_json(item) for item in explained]}
        trust: dict[str, Any] = {}
        if manifest.trust is not None:
            trust = {
                "policy": _policy_path(manifest),
                "trust": [dataclasses.asdict(item) for item in trusted],
            }
        print_json(document | trust)
    elif not explained:
        click.echo(f"{manifest.source.shown} has no components.")
    else:
        click.echo("\n\n".join(_as_text(item) for item in explained))
    if trusted and not as_json:
        click.echo("\n" + "\n".join(_trust_lines(trusted, manifest)))
    if not all(item.answered for item in explained):
        ctx.exit(exit_codes.LOAD)


def _covered(manifest: Manifest, only: Sequence[str]) -> Sequence[Covered]:
    """What the manifest's policy says of its members: of all, or of some components."""
    if manifest.trust is None:
        return ()
    from loop_kit.trust._members import covered

    wanted = {f"components.{name}" for name in only}
    return [item for item in covered(manifest) if not only or item.member in wanted]


def _policy_path(manifest: Manifest) -> Path:
    return (manifest.trust_source or manifest.source).path


def _trust_lines(trusted: Sequence[Covered], manifest: Manifest) -> list[str]:
    shown = {"signed": good, "unsigned": warn, "refused": warn, "local": dim}
    lines = [strong("trust")]
    if manifest.trust_source is not None:
        lines[0] += dim(f"  by your own policy, {_policy_path(manifest)}")
    for item in trusted:
        where = f" ({item.place})" if item.place else ""
        lines += [f"  {item.member}  {dim(item.what)}", f"    {shown[item.verdict](item.why)}{where}"]
    return lines


def _explain_difference(manifest: Manifest, since: str, only: Sequence[str], as_json: bool) -> None:
    from loop_kit.manifest.sentences import differences

    found = [
        item for item in differences(_former(manifest, since), manifest) if not only or item.component in only
    ]
    if as_json:
        print_json(
            {"manifest": manifest.path, "since": since, "differences": [dataclasses.asdict(d) for d in found]}
        )
        return
    if not found:
        click.echo(good(f"no component may more, or less, than by {since}"))
    for item in found:
        click.echo(strong(item.component))
        for sentence in item.wider:
            click.echo(f"  {warn('+ may')} {sentence}")
        for sentence in item.narrower:
            click.echo(f"  {good('- may no longer')} {sentence}")


def _former(manifest: Manifest, since: str) -> Manifest:
    """The manifest as it was: in another file, or at a revision.

    Raises:
        LoopError: There is none.
    """
    from loop_kit.manifest import load, loads

    if Path(since).is_file():
        # its paths are as those of today's, to which it is compared
        return loads(Path(since).read_bytes(), manifest.path, shown=since)
    if Path(since).is_dir():
        return load(since)
    folder, name = manifest.path.parent, manifest.path.name
    show = ("git", "-C", str(folder), "show", f"{since}:./{name}")
    try:
        done = subprocess.run(show, capture_output=True, check=False)
    except OSError as error:
        raise LoopError(f"{since} is no file, and git cannot be run: {error.strerror}") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise LoopError(f"{since} is no file, and git has no {name} there: {''.join(why)}")
    return loads(done.stdout, manifest.path, shown=f"{since}:{name}")


def _as_json(component: ExplainedComponent) -> dict[str, Any]:
    imports = [dataclasses.asdict(item) | {"answered": item.answered} for item in component.imports]
    return dataclasses.asdict(component) | {"answered": component.answered, "imports": imports}


def _as_text(component: ExplainedComponent) -> str:
    from loop_kit.manifest._shape import either

    where = component.artifact.reference if component.artifact else click.format_filename(component.path)
    lines = [f"{strong(component.name)}  {dim(where)}"]
    if component.artifact is not None:
        lines.append(f"  is {_artifact(component.artifact)}")
    if component.commands:
        lines.append(f"  makes `loop x {'`, `loop x '.join(component.commands)}`")
    if component.unread is not None:
        lines += [warn(f"  cannot be read: {component.unread}"), "  what loop.toml links, then:"]
    lines += [f"  may {sentence}" for sentence in component.may.allowed]
    if component.may.denied:
        lines.append(f"  may not {either(component.may.denied)}")
    if component.types:
        files = ", ".join(click.format_filename(file) for file in component.types)
        lines.append(f"  has types of its WIT in {files}, by `loop bind`")
    if not component.imports:
        lines.append("  imports nothing")
    for names, item in _grouped(component.imports):
        lines += ["", *(f"  {name}" for name in names)]
        lines += [f"    {label:<11}{text}" for label, text in _rows(item)]
        if item.add:
            lines.append("    to link it, add" if item.status == "missing" else "    to allow more, add")
            lines += [f"      {line}".rstrip() for line in item.add.splitlines()]
    for key, near in component.unused.items():
        hint = f"; did you mean {near}?" if near else ""
        lines += ["", warn(f'  the link "{key}" matches no import{hint}')]
    return "\n".join(lines)


def _grouped(imports: Sequence[ExplainedImport]) -> list[tuple[list[str], ExplainedImport]]:
    """Puts interfaces of WASI that share one answer together: there are many, and their answers are few."""
    groups: dict[object, tuple[list[str], ExplainedImport]] = {}
    for item in imports:
        key = (item.reason, item.add) if item.status == "wasi" else item.name
        groups.setdefault(key, ([], item))[0].append(item.name)
    return list(groups.values())


def _rows(item: ExplainedImport) -> list[tuple[str, str]]:
    where = f"{item.reason} ({item.place})" if item.place else item.reason
    match item.status:
        case "missing" | "refused":
            return [(item.status, warn(where))]
        case "wasi" if item.add:
            return [("provider", "WASI, built in"), ("grant", f"nothing: {item.reason}")]
        case "wasi":
            grant = [("grant", _grant(item.grant))] if item.grant else []
            return [("provider", "WASI, built in"), *grant, ("because", where)]
        case "linked":
            return [
                ("provider", f"{item.provider}, {item.use}"),
                *([("artifact", _artifact(item.artifact))] if item.artifact else []),
                *_placement(item),
                ("grant", _grant(item.grant)),
                *([("budget", f"{item.budget * 1000:g}ms")] if item.budget is not None else []),
                ("because", where),
            ]


def _placement(item: ExplainedImport) -> list[tuple[str, str]]:
    match item.placement:
        case "sidecar":
            whose = "of its own for this link" if item.isolated else "of its own"
            return [
                ("runs", f"as a process {whose}, over {item.transport}"),
                ("command", shlex.join(item.process)),
                ("trust", warn(f"a native program with your rights, and with {_entrusted(item)}")),
            ]
        case "oci":
            return [("runs", warn("as what it is: nobody knows before it is fetched"))]
        case "remote":
            how = " and ".join(item.secured) or "nothing to secure it"
            return [
                ("runs", f"elsewhere, over {item.transport} with {how}"),
                ("trust", warn(f"whoever answers there, with {_entrusted(item)}")),
            ]
        case _ if item.trusted:
            return [("runs", warn("TRUSTED: in this process, with all the rights of the host"))]
        case "component":
            return [("runs", good("sandboxed, as a component"))]
        case _:
            return [("runs", "in this process, as part of loop-kit")]


def _artifact(artifact: Artifact) -> str:
    entry = artifact.entry
    if entry is None:
        stale = f"; loop.lock has {artifact.stale}" if artifact.stale else ""
        return warn(f"not pinned in loop.lock: `loop pull` does so{stale}")
    version = f"{entry.version}, " if entry.version else ""
    return f"{version}{entry.digest}, signed by {entry.signed_by or 'nobody whom a policy asks for'}"


def _entrusted(item: ExplainedImport) -> str:
    granted = [place for place, grant in item.entrusted if grant]
    match granted:
        case []:
            return "no grants"
        case [_] if len(item.entrusted) == 1:
            return "the grant below"
        case _:
            return f"the grants of {', '.join(granted)}"


def _grant(grant: Mapping[str, Any]) -> str:
    from loop_kit.manifest._toml import inline

    return inline(grant) if grant else "nothing"
