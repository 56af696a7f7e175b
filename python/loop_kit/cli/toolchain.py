"""`loop toolchain`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_kit.cli import exit_codes
from loop_kit.cli._output import dim, examples
from loop_kit.cli._workspace import manifest_option

if TYPE_CHECKING:
    from loop_kit.manifest import Manifest
    from loop_kit.store.loading import Artifacts

_MOST_BYTES = 256 << 20
_LEFT_OUT = {"node_modules", ".git", ".loop", "dist", "build", "target"}


_from_option = click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The folder of the sources.  [default: this one]",
)


@click.group(
    epilog=examples(
        ("loop toolchain bundle tool main.ts --from src --output dist/page.js", "one file of many"),
        ("loop toolchain compile tool a.ts b.ts --from src --output lib", "each file by itself"),
        ("loop toolchain link linker app.wasm store.wasm -o site.wasm", "components into one"),
        ("loop toolchain run node dist/page.js", "a script, which can reach nothing"),
    )
)
def toolchain() -> None:
    """Bundle, compile, link and run by a provider of `loop:toolchain`.

    PROVIDER is one of the workspace's, by its name: a native program and a component make the same, and a line of
    loop.toml says which it is.
    """


@toolchain.command(
    epilog=examples(
        ("loop toolchain bundle tool main.ts --from src -o dist/page.mjs", "a module"),
        (
            "loop toolchain bundle tool main.ts --from src -o dist/page.js --script",
            "a script for `<script src>`",
        ),
    )
)
@click.argument("provider")
@click.argument("entry")
@_from_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to make.")
@click.option("--script", is_flag=True, help="Make a script to be run at once, and no module.")
@manifest_option
def bundle(
    provider: str, entry: str, source: Path, output: Path, script: bool, manifest_path: Path | None
) -> None:
    """Make one file of ENTRY, which is in the folder --from, and of what it imports from there."""
    options = {"entry": entry, "format": "script" if script else "module", "output": output.name}
    made = _call(provider, manifest_path, "bundle", [_files(source), options])
    _write(made, output.parent)


@toolchain.command(
    epilog=examples(
        ("loop toolchain compile tool shapes.ts view.tsx --jsx --from src -o lib", "into lib/*.js")
    )
)
@click.argument("provider")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_from_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder to write to."
)
@click.option("--jsx", is_flag=True, help="Turn tags of JSX into calls of React's.")
@manifest_option
def compile(
    provider: str, files: tuple[str, ...], source: Path, output: Path, jsx: bool, manifest_path: Path | None
) -> None:
    """Compile each FILE, which is in the folder --from, by itself; types are taken out and not checked."""
    for name in files:
        given = {"path": name, "contents": _read(source / name)}
        _write(_call(provider, manifest_path, "compile", [given, {"jsx": jsx}]), output)


@toolchain.command(
    epilog=examples(
        (
            "loop toolchain link linker app.wasm store.wasm -o site.wasm",
            "what app imports of store is filled",
        ),
    )
)
@click.argument("provider")
@click.argument("entry", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The component to make.")
@manifest_option
def link(
    provider: str, entry: Path, files: tuple[Path, ...], output: Path, manifest_path: Path | None
) -> None:
    """Make one component of ENTRY and of those FILEs that export what it imports.

    What none of them exports stays an import of the whole.
    """
    given = [{"path": path.as_posix(), "contents": _read(path)} for path in dict.fromkeys((entry, *files))]
    options = {"entry": entry.as_posix(), "output": output.name}
    _write(_call(provider, manifest_path, "link", [given, options]), output.parent)


@toolchain.command(
    context_settings={"ignore_unknown_options": True},
    epilog=examples(("loop toolchain run tool dist/page.js one two", "its arguments are `scriptArgs`")),
)
@click.argument("provider")
@click.argument("program", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@manifest_option
def run(provider: str, program: Path, arguments: tuple[str, ...], manifest_path: Path | None) -> None:
    """Run PROGRAM, a script of JavaScript, which can reach nothing; it ends with the code that this has then."""
    given = {"path": program.as_posix(), "contents": _read(program)}
    ended = _call(provider, manifest_path, "run", [given, {"arguments": list(arguments)}])
    click.echo(ended.output, nl=False)
    click.echo(ended.problems, nl=False, err=True)
    raise SystemExit(ended.code)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise click.UsageError(f"there is no file {path}")
    return path.read_bytes()


def _files(folder: Path) -> list[dict[str, Any]]:
    """All files below a folder, but what is installed and what was built."""
    found: list[dict[str, Any]] = []
    size = 0
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        for name in sorted(names):
            path = Path(at, name)
            size += path.stat().st_size
            if size > _MOST_BYTES:
                raise click.UsageError(
                    f"{folder} has more than {_MOST_BYTES} bytes; name a smaller one by --from"
                )
            found.append({"path": path.relative_to(folder).as_posix(), "contents": path.read_bytes()})
    return found


def _write(made: Any, folder: Path) -> None:
    for problem in made.warnings:
        click.echo(dim(_said(problem)), err=True)
    root = folder.resolve()
    for file in made.files:
        place = (root / file.path).resolve()
        if not place.is_relative_to(root) or place == root:
            raise click.ClickException(f"the provider wants to write {file.path!r}, which is not in {folder}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.contents)


def _said(problem: Any) -> str:
    where = problem.path or ""
    if where and problem.line:
        where += f":{problem.line}" + (f":{problem.column}" if problem.column else "")
    return f"{where}: {problem.message}" if where else problem.message


def _call(provider: str, manifest_path: Path | None, interface: str, args: list[Any]) -> Any:
    import asyncio

    import loop_kit as loop
    from loop_kit.cli._workspace import open_manifest
    from loop_kit.store.loading import Artifacts
    from loop_kit.testing import client

    manifest = open_manifest(manifest_path)

    async def work(given: str, config: dict[str, Any]) -> Any:
        async with client("loop:toolchain", provider=given, config=config or None) as tool:
            return await getattr(getattr(tool, interface), interface)(*args)

    try:
        with contextlib.closing(Artifacts()) as artifacts:
            return asyncio.run(work(*_placed(manifest, provider, artifacts)))
    except loop.Err as error:
        for problem in error.value:
            click.echo(f"{click.style('error:', fg='red', bold=True)} {_said(problem)}", err=True)
        raise SystemExit(exit_codes.FAILED) from None


def _placed(manifest: Manifest, name: str, artifacts: Artifacts) -> tuple[str, dict[str, Any]]:
    """A provider of a manifest, which its policy takes, as `client` takes it, and its config."""
    from loop_kit.manifest import reveal

    found = manifest.providers.get(name)
    if found is None:
        known = ", ".join(manifest.providers) or "none"
        raise click.UsageError(f"there is no provider {name!r} in {manifest.path}; there are: {known}")
    use = found.use
    artifacts.admit_provider(found, manifest)
    if found.artifact is not None:
        artifacts.check(f"providers.{name}", found.artifact, manifest)
    if found.placement == "component" and found.target.startswith("loop:"):
        pass  # it ships with loop-kit
    elif found.placement == "component":
        path = found.path
        if path is None:
            component = manifest.components[found.target]
            artifacts.admit(component, manifest)
            path = component.path
        if not path.is_file():
            raise click.UsageError(f"{path} is not built yet: `loop task`, or its `build`, makes it")
        use = f"component:{path}"
    elif found.placement not in ("python", "builtin"):
        raise click.UsageError(f"{name} is {use!r}: what makes programs runs in this process")
    return use, reveal(dict(found.config))
