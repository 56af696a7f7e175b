"""`loop pkg`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loop_kit.cli._output import dim, examples, good, json_option, print_json, strong, warn
from loop_kit.cli._workspace import manifest_option, open_manifest

if TYPE_CHECKING:
    from loop_kit.pkg import Packages
    from loop_kit.pkg._install import Program

_T = TypeVar("_T")


def _aliases(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    try:
        return [
            name
            for name in open_manifest(ctx.params.get("manifest_path")).packages
            if name.startswith(incomplete)
        ]
    except Exception:
        return []  # the shell has nowhere to show an error


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    try:
        known = _packages(ctx.params.get("manifest_path")).programs()
        return [program.name for program in known if program.name.startswith(incomplete)]
    except Exception:
        return _aliases(ctx, param, incomplete)


def _runnable(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from loop_kit.pkg import TOOLS

    more = [name for name in TOOLS if name.startswith(incomplete)]
    return list(dict.fromkeys([*_names(ctx, param, incomplete), *more]))


def _packages(manifest_path: Path | None) -> Packages:
    from loop_kit.pkg import Packages

    return Packages(open_manifest(manifest_path), lambda text: click.echo(dim(text), err=True))


def _do(packages: Packages, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    import asyncio

    async def whole() -> _T:
        async with packages:
            return await work()

    return asyncio.run(whole())


@click.group(
    epilog=examples(
        ("loop pkg add ripgrep@14 pypi:ruff npm:esbuild@^0.28", "into loop.toml and loop.lock, and install"),
        ("loop pkg install --locked", "what the lock has, on another machine"),
        ("loop pkg run ruff -- check .", "run a program of it"),
        ('eval "$(loop pkg activate bash)"', "in a shell's start file: programs by their names, by folder"),
    )
)
def pkg() -> None:
    """Install the tools of a workspace, pinned and checked.

    A package is SOURCE:NAME@RANGE. The sources are npm, pypi, crates, go, github and oci, each as its own client is
    configured, and those that [resolvers] of loop.toml adds; some names, such as ripgrep, need no source. A range is as
    npm has it (^1.2, ~1.2, 1.x, >=1 <3), of pypi as PEP 440 has it. loop.lock pins versions with checksums for every
    platform; files are kept by these, and what is installed needs no network. No script of a package runs when it is
    installed; what is source (crates, go) is built by its own tool, with your rights.
    """


@pkg.command(
    epilog=examples(
        ("loop pkg add ruff", "the newest, from where it is known to be"),
        ("loop pkg add npm:esbuild@^0.28", ""),
        ("loop pkg add rg=github:BurntSushi/ripgrep@14", "called rg here"),
        ("loop pkg add crates:hexyl go:github.com/rakyll/hey", "built by cargo and go"),
    )
)
@click.argument("packages", nargs=-1, required=True)
@manifest_option
@json_option
def add(packages: tuple[str, ...], manifest_path: Path | None, as_json: bool) -> None:
    """Add packages to loop.toml, lock and install them.

    Where no range is said, one that a file here asks for (.nvmrc, .python-version, .tool-versions, …) is taken.
    """
    from dataclasses import replace

    from loop_kit.manifest.edit import difference, save
    from loop_kit.pkg import Asked
    from loop_kit.pkg._edit import with_package

    wanted = [Asked.parse(text) for text in packages]
    found = _packages(manifest_path)
    before = found.manifest

    async def work() -> list[Program]:
        for asked in wanted:
            range_ = asked.range or await found.asked_here(asked) or ""
            found.manifest = with_package(found.manifest, replace(asked, range=range_))
        aliases = [asked.alias for asked in wanted]
        # looked for before anything is written
        await found.lock(aliases)
        programs = await found.install()
        save(before, found.manifest)
        return programs

    programs = _do(found, work)
    if not as_json:
        for line in difference(before, found.manifest).splitlines():
            if line[:1] in "+-" and line[:3] not in ("+++", "---"):
                click.echo(good(line) if line[0] == "+" else warn(line))
    _say(found, programs, as_json)


@pkg.command(
    "import",
    epilog=examples(
        ("loop pkg import package-lock.json", "whatever its project depends on and has a program"),
        ("loop pkg import web/package-lock.json esbuild", "one of them"),
        ("loop pkg install", "then: fetches them, each held to the lock's integrity"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1)
@manifest_option
@json_option
def import_(file: Path, names: tuple[str, ...], manifest_path: Path | None, as_json: bool) -> None:
    """Take tools over from npm's package-lock.json, as they are pinned there.

    Versions, trees and checksums are the file's; no registry is asked, and no range looked up anew. It writes loop.toml
    and loop.lock.
    """
    from loop_kit.manifest.edit import save
    from loop_kit.pkg._npm_lock import added, read

    found = _packages(manifest_path)
    before = found.manifest
    tools, left = read(file, names)
    if tools:
        save(before, added(before, tools))
    if as_json:
        rows = [
            {"name": alias, "asked": str(one.asked), "version": one.version} for alias, one in tools.items()
        ]
        print_json({"packages": rows, "left": left})
        return
    for alias, one in tools.items():
        needs = f", with {len(one.nodes) - 1} that it needs" if len(one.nodes) > 1 else ""
        click.echo(f"{strong(alias)}  {one.version}{needs}")
    if left:
        click.echo(dim(f"left out, since they have no program: {', '.join(left)}"))
    click.echo(dim("`loop pkg install` fetches them" if tools else "nothing is taken over"))


@pkg.command(
    epilog=examples(
        ("loop pkg install", ""),
        ("loop pkg install --locked", "fail where the lock does not have all of it"),
        ("loop pkg install --offline", "from the store alone"),
    )
)
@click.option(
    "--locked", is_flag=True, help="Take what loop.lock has, and fail where something is not in it."
)
@click.option("--offline", is_flag=True, help="Fetch nothing; implies --locked.")
@manifest_option
@json_option
def install(locked: bool, offline: bool, manifest_path: Path | None, as_json: bool) -> None:
    """Install what loop.toml asks for, as loop.lock has it."""
    found = _packages(manifest_path)
    _say(found, _do(found, lambda: found.install(offline=offline, locked=locked)), as_json)


def _say(found: Packages, programs: list[Program], as_json: bool) -> None:
    from loop_kit.pkg._install import shims_folder

    place = shims_folder(found.folder)
    locked = found.locked()
    if as_json:
        said = [
            {
                "name": one.name,
                "package": one.alias,
                "version": locked[one.alias].version,
                "command": one.command,
            }
            for one in programs
        ]
        print_json({"programs": said, "bin": place})
        return
    for one in programs:
        click.echo(f"{strong(one.name)}  {one.alias} {locked[one.alias].version}")
    if programs:
        click.echo(dim(f"in {place}; `loop pkg activate` puts it into PATH while you are here"))


@pkg.command(epilog=examples(("loop pkg update", "all"), ("loop pkg update esbuild", "one")))
@click.argument("packages", nargs=-1, shell_complete=_aliases)
@manifest_option
@json_option
def update(packages: tuple[str, ...], manifest_path: Path | None, as_json: bool) -> None:
    """Lock the newest versions that loop.toml allows, and install them."""
    found = _packages(manifest_path)
    for alias in packages:
        _known(found, alias)
    before = {alias: locked.version for alias, locked in found.locked().items()}

    async def work() -> list[Program]:
        await found.lock(packages or None, anew=True)
        return await found.install()

    programs = _do(found, work)
    if not as_json:
        for alias, locked in found.locked().items():
            if before.get(alias) != locked.version:
                click.echo(f"{strong(alias)}  {before.get(alias, 'new')} → {good(locked.version)}")
    _say(found, programs, as_json)


def _known(found: Packages, alias: str) -> None:
    import difflib

    if alias not in found.manifest.packages:
        near = difflib.get_close_matches(alias, found.manifest.packages, 1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise click.UsageError(f"loop.toml asks for no package {alias!r}{meant}")


@pkg.command(epilog=examples(("loop pkg remove esbuild", "")))
@click.argument("packages", nargs=-1, required=True, shell_complete=_aliases)
@manifest_option
def remove(packages: tuple[str, ...], manifest_path: Path | None) -> None:
    """Remove packages from loop.toml, loop.lock and PATH; their files stay in the store."""
    from loop_kit.manifest.edit import save
    from loop_kit.pkg._edit import without_package
    from loop_kit.pkg._install import write_shims

    found = _packages(manifest_path)
    before = found.manifest
    for alias in dict.fromkeys(packages):
        _known(found, alias)
        found.manifest = without_package(found.manifest, alias)
    save(before, found.manifest)

    async def work() -> None:
        await found.lock(())
        write_shims(found.folder, [one for one in _there(found) if one.alias in found.manifest.packages])

    _do(found, work)
    for alias in dict.fromkeys(packages):
        click.echo(f"{strong(alias)} is removed")


def _there(found: Packages) -> list[Program]:
    from loop_kit.errors import PackageError

    try:
        return found.programs()
    except PackageError:
        return []  # something else is not installed


@pkg.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(("loop pkg run ruff -- check .", ""), ("loop pkg run esbuild --version", "")),
)
@click.argument("name", shell_complete=_runnable)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@manifest_option
def run(name: str, args: tuple[str, ...], manifest_path: Path | None) -> None:
    """Run what `{tool:NAME}` of a build is: a program of a package, or one that comes with loop-kit.

    It is installed if it is locked and not there. The exit code is its own.
    """
    import asyncio
    import os

    from loop_kit.pkg import NoTool, Tools

    tools = Tools.of(open_manifest(manifest_path))
    try:
        command = asyncio.run(tools.command(name, lambda text: click.echo(dim(text), err=True)))
    except NoTool as error:
        raise click.UsageError(f"no package here has a program {name!r}: {error.hint}") from None
    command = (*command, *(args[1:] if args[:1] == ("--",) else args))
    os.execv(command[0], command)


def _find(programs: list[Program], name: str) -> Program:
    import difflib

    known = {program.name: program for program in programs}
    alone = {program.alias: program for program in programs}
    if name in known or name in alone:
        return known.get(name) or alone[name]
    near = difflib.get_close_matches(name, known, 1)
    there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none'}"
    raise click.UsageError(f"no package here has a program {name!r}: {there}")


@pkg.command(epilog=examples(("loop pkg which ruff", "")))
@click.argument("name", shell_complete=_names)
@manifest_option
@json_option
def which(name: str, manifest_path: Path | None, as_json: bool) -> None:
    """Show what runs when a program is called."""
    found = _packages(manifest_path)
    one = _find(found.programs(), name)
    if as_json:
        version = found.locked()[one.alias].version
        print_json({"name": one.name, "package": one.alias, "version": version, "command": one.command})
    else:
        click.echo(" ".join(one.command))


@pkg.command(
    "ls", epilog=examples(("loop pkg ls", ""), ("loop pkg ls --json | jq '.packages[].version'", ""))
)
@manifest_option
@json_option
def ls(manifest_path: Path | None, as_json: bool) -> None:
    """Show the packages of the workspace: what is asked for, locked and installed."""
    found = _packages(manifest_path)
    locked = found.locked()
    rows = [_row(found, alias, locked) for alias in found.manifest.packages]
    if as_json:
        print_json({"packages": rows})
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        state = {"installed": good, "locked": warn, "not locked": warn}[row["state"]](row["state"])
        click.echo(
            f"{strong(row['name'].ljust(width))}  {row['version'] or '-':<10}  {row['asked']}  {state}"
        )
    if not rows:
        click.echo(dim("none; `loop pkg add NAME` adds one"))


def _row(found: Packages, alias: str, locked: Any) -> dict[str, Any]:
    from loop_kit.pkg._install import place_of

    asked, pinned = found.manifest.packages[alias], locked.get(alias)
    state = "not locked"
    if pinned is not None and pinned.asked == asked and pinned.here(found.here):
        state = "installed" if place_of(found.store, pinned, found.here).is_dir() else "locked"
    platforms = sorted({key for file in pinned.nodes[0].files for key in file.platforms}) if pinned else []
    return {
        "name": alias,
        "asked": str(asked),
        "version": pinned and pinned.version,
        "state": state,
        "needs": len(pinned.nodes) - 1 if pinned else 0,
        "platforms": platforms,
    }


@pkg.command(epilog=examples(("loop pkg why @esbuild/linux-x64", "who needs it")))
@click.argument("name")
@manifest_option
@json_option
def why(name: str, manifest_path: Path | None, as_json: bool) -> None:
    """Show which packages need NAME, and by which way."""
    found = _packages(manifest_path)
    ways: list[list[str]] = []
    for alias, pinned in found.locked().items():
        by_key = {node.at if pinned.layout == "nested" else node.name: node for node in pinned.nodes}
        root = pinned.nodes[0]
        waiting, seen = [[root]], set[int]()
        while waiting:
            way = waiting.pop(0)
            node = way[-1]
            if name in (node.name, alias) and (node is not root or name in (alias, root.name)):
                ways.append([f"{one.name} {one.version}" for one in way])
                continue
            for need in node.needs:
                after = by_key.get(need)
                if after is not None and id(after) not in seen:
                    seen.add(id(after))
                    waiting.append([*way, after])
    if as_json:
        print_json({"name": name, "ways": ways})
    elif not ways:
        raise click.UsageError(f"nothing that is locked here needs {name!r}")
    else:
        for words in ways:
            click.echo("loop.toml → " + " → ".join([*words[:-1], strong(words[-1])]))


@pkg.command(epilog=examples(("loop pkg outdated", ""), ("loop pkg outdated --json", "")))
@manifest_option
@json_option
def outdated(manifest_path: Path | None, as_json: bool) -> None:
    """Show for what there is something newer. Exits with 1 where there is."""
    found = _packages(manifest_path)
    locked = found.locked()

    async def work() -> list[dict[str, str]]:
        rows = []
        for alias, asked in found.manifest.packages.items():
            fits, newest = await found.newest(asked)
            now = locked[alias].version if alias in locked else "none"
            if now != fits or now != newest:
                rows.append({"name": alias, "locked": now, "fits": fits, "newest": newest})
        return rows

    rows = _do(found, work)
    if as_json:
        print_json({"outdated": rows})
    for row in rows if not as_json else ():
        click.echo(
            f"{strong(row['name'])}  {row['locked']}  fits {good(row['fits'])}  newest {row['newest']}"
        )
    if not rows and not as_json:
        click.echo(dim("nothing is outdated"))
    if rows:
        raise click.exceptions.Exit(1)


@pkg.command(
    epilog=examples(
        ('eval "$(loop pkg env)"', "PATH of this folder, in a script"), ("loop pkg env --json", "")
    )
)
@manifest_option
@json_option
def env(manifest_path: Path | None, as_json: bool) -> None:
    """Print what puts the programs of the workspace into PATH."""
    import shlex

    from loop_kit.cli._workspace import manifest_file
    from loop_kit.pkg._install import shims_folder

    place = shims_folder(manifest_file(manifest_path).absolute().parent)
    if not place.is_dir():
        from loop_kit.pkg._model import failed

        raise failed("nothing is installed here", "`loop pkg install`")
    if as_json:
        print_json({"bin": place})
    else:
        click.echo(f'export PATH={shlex.quote(str(place))}:"$PATH"')


@pkg.command(
    epilog=examples(
        ('eval "$(loop pkg activate bash)"', "in ~/.bashrc"),
        ('eval "$(loop pkg activate zsh)"', "in ~/.zshrc"),
        ("loop pkg activate fish | source", "in config.fish"),
    )
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def activate(shell: str) -> None:
    """Print a hook that has the programs of a workspace in PATH while a shell is in its folder, or below.

    It starts no program. It looks at scripts that `loop pkg install` wrote into your own data folder, so a folder that
    came from elsewhere brings nothing into PATH.
    """
    from loop_kit.pkg._shell import hook

    click.echo(hook(shell), nl=False)
