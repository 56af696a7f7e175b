"""What a package is made of, before anything is built or fetched."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loop_kit import _core
from loop_kit._modules import file_of
from loop_kit.errors import LoadError, PackageError
from loop_kit.manifest import Component, Manifest, Pack, Provider
from loop_kit.manifest._use import is_shipped
from loop_kit.pack._facts import Facts, facts_of
from loop_kit.pack._secret import why_secret
from loop_kit.pkg import Tools

__all__ = ["Plan", "Tell", "packable", "plan", "problem"]

Tell = Callable[[str], object]

_CORE = Path(__file__).parents[1] / "capabilities" / "core" / "wit"
_BINS = ("node_modules", ".bin")
_MOST_WIT = 4 << 20


@dataclass(frozen=True)
class Plan:
    """What is to be packed.

    Attributes:
        name: Its name in the manifest.
        kind: What becomes of it.
        facts: What is said of it.
        pack: What the manifest says of its package.
        folder: The workspace's.
        component: The component, where it is one of the workspace.
        provider: The provider; None for a component.
        entry: `module:Class`, or a file by its path in the package; of a native program its path in the workspace,
            with placeholders; of a component "".
        files: The files of the workspace that go in, by their paths in the package.
        left_out: Files that do not, and why.
        wit: The text of its WIT files.
        exports: The interfaces that it serves.
        wasm: The component's file.
        project: The folder of a native program's own project, with its Cargo.toml or go.mod.
        tools: What the build of a component may name.
    """

    name: str
    kind: Literal["component", "python", "node", "native"]
    facts: Facts
    pack: Pack
    folder: Path
    component: Component | None = None
    provider: Provider | None = None
    entry: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    wit: Mapping[str, str] = field(default_factory=dict)
    exports: tuple[str, ...] = ()
    wasm: Path | None = None
    project: Path | None = None
    tools: Tools = field(default_factory=Tools)


def problem(message: str, hint: str | None = None) -> PackageError:
    """An error with what to do about it."""
    error = PackageError(message)
    error.hint = hint
    return error


def packable(manifest: Manifest) -> list[str]:
    """The names of what can be packed: what is the workspace's own."""
    own = [name for name, provider in manifest.providers.items() if _kind(provider) is not None]
    return [*manifest.components, *(name for name in own if name not in manifest.components)]


def _kind(provider: Provider) -> Literal["component", "python", "node", "native"] | None:
    """What a provider becomes; None: there is nothing of the user's to pack, or nothing that is known."""
    if provider.shipped or provider.shipped_aside or provider.placement in ("builtin", "remote"):
        return None
    if provider.placement == "component":
        return "component" if provider.path is not None and not is_shipped(provider.target) else None
    if provider.module is not None:
        return "python"
    if provider.pack is not None and provider.pack.program is not None:
        return "native"
    if provider.target.startswith("node:") or (
        provider.path is not None and provider.path.parts[-3:-1] == _BINS
    ):
        return "node"
    return "native" if provider.path is not None else None


async def plan(manifest: Manifest, name: str) -> Plan:
    """Says what the package of a component or a provider is made of.

    Raises:
        PackageError: There is none of that name, or nothing of it that could be packed; or what is needed for it is not
            there.
    """
    component, provider = manifest.components.get(name), manifest.providers.get(name)
    if component is not None:
        pack = component.pack or Pack()
        facts = facts_of(pack, component.path.parent, manifest.folder)
        return Plan(
            name,
            "component",
            facts,
            pack,
            manifest.folder,
            component,
            wasm=component.path,
            tools=Tools.of(manifest),
        )
    if provider is None:
        from loop_kit.manifest._shape import did_you_mean

        known = [*manifest.components, *manifest.providers]
        hint = did_you_mean(name, known) or f"there are {', '.join(known) or 'none'}"
        raise problem(f"{manifest.path} has no component and no provider {name!r}", hint)
    kind = _kind(provider)
    if kind is None:
        raise _unpackable(provider)
    if kind == "component":
        assert provider.path is not None
        pack = provider.pack or Pack()
        facts = facts_of(pack, provider.path.parent, manifest.folder)
        return Plan(name, kind, facts, pack, manifest.folder, provider=provider, wasm=provider.path)
    return await _of_provider(manifest, provider, kind)


def _unpackable(provider: Provider) -> PackageError:
    where = f"providers.{provider.name} ({provider.use})"
    if provider.placement == "remote":
        return problem(
            f"{where} runs elsewhere: there is nothing here to pack", "pack it in its own workspace"
        )
    if (
        provider.shipped
        or provider.shipped_aside
        or is_shipped(provider.target)
        or provider.placement == "builtin"
    ):
        return problem(f"{where} ships with loop-kit, whoever has that has it", "pack what is your own")
    if provider.placement == "component":
        return problem(f"{where} is the component {provider.target}", f"loop pack {provider.target}")
    hint = f'name it: [providers.{provider.name}.pack] program = "target/{{target}}/release/NAME"'
    return problem(f"{where} is found in PATH, and no file of it is known", hint)


async def _of_provider(
    manifest: Manifest, provider: Provider, kind: Literal["python", "node", "native"]
) -> Plan:
    folder, pack = manifest.folder, provider.pack or Pack()
    code: Path | None = None
    declared: tuple[str, ...] = ()
    wit = pack.wit or (provider.bind.wit if provider.bind is not None else None)
    if kind == "python":
        module, _, cls = provider.target.removeprefix("python:").partition(":")
        entry = f"{module}:{cls}"
        code = file_of(module, folder)
        if code is None and pack.wheel is None:
            raise problem(
                f"providers.{provider.name}: there is no module {module!r} in {folder}",
                "is it a wheel? name it: pack.wheel",
            )
        if code is not None:
            declared, said = _decorated(code, cls)
            wit = wit or (None if said is None else Path(os.path.normpath(code.parent / said)))
    elif kind == "node":
        assert provider.path is not None
        code, entry = provider.path, _inside(provider.path, folder, f"providers.{provider.name}")
        if "--wit" in provider.args[:-1]:
            wit = wit or folder / provider.args[provider.args.index("--wit") + 1]
    else:
        entry = pack.program or _inside(provider.path or Path(), folder, f"providers.{provider.name}")
    texts, wit = _wit(provider, wit, [] if code is None else [code.parent, code.parent.parent], folder)
    exports = _exports(provider, wit, pack.exports or declared, pack.imports)
    files: dict[str, Path] = {}
    left_out: list[tuple[str, str]] = []
    found = await _files(manifest, provider, kind, code)
    if kind != "native":  # which has it in itself, or is told where it is
        found |= {str(path) for path in _wit_files(wit)} if wit.is_relative_to(folder) else set()
    secrets = {os.path.normpath(path) for path in _secrets_of(manifest)}
    layouts = {at for at in {Path(path).parent for path in found} if (at / "oci-layout").is_file()}
    for path in sorted(found):
        if not layouts.isdisjoint(Path(path).parents):
            continue  # what was packed before
        at = _inside(Path(path), folder, f"providers.{provider.name}")
        why = "is a secret of loop.toml" if path in secrets else why_secret(Path(path), at)
        if why is None:
            files[at] = Path(path)
        else:
            left_out.append((at, why))
    project = _project(code or wit, folder, ("package.json",) if kind == "node" else ("Cargo.toml", "go.mod"))
    return Plan(
        provider.name,
        kind,
        facts_of(pack, folder if kind == "python" else project, folder),
        pack,
        folder,
        provider=provider,
        entry=entry,
        files=files,
        left_out=tuple(left_out),
        wit=texts,
        exports=exports,
        project=project,
    )


def _project(start: Path, folder: Path, files: tuple[str, ...]) -> Path:
    """The nearest folder around a file with one of these, in the workspace; else its own."""
    for at in start.parents:
        if at.is_relative_to(folder) and any((at / name).is_file() for name in files):
            return at
    return folder


def _inside(path: Path, folder: Path, where: str) -> str:
    if not path.is_relative_to(folder):
        hint = "copy it there, or make the folder around both a workspace"
        raise problem(f"{where}: {path} lies outside of the workspace's folder {folder}", hint)
    return path.relative_to(folder).as_posix()


async def _files(manifest: Manifest, provider: Provider, kind: str, code: Path | None) -> set[str]:
    """What it is made of in `loop dev`, of what git does not ignore; and what the manifest adds."""
    from loop_kit.dev._events import Member
    from loop_kit.dev._files import Files
    from loop_kit.dev._imports import Imports
    from loop_kit.dev._inputs import Inputs, given, inputs_of
    from loop_kit.dev._tree import Tree

    folder, pack, member = manifest.folder, provider.pack or Pack(), Member("provider", provider.name)
    inputs = inputs_of(manifest)[member]
    rules = given(pack.files, folder)
    entry: Path | None = None
    if kind != "native" and pack.wheel is None:
        rules = (*inputs.rules, *rules)
        in_modules = code is not None and "node_modules" in code.parts
        entry = inputs.entry or (None if in_modules or provider.sources else code)
    if not rules and entry is None:
        return set()
    async with Files(folder) as files:
        tree = Tree(files, Imports(folder))
        tree.define({member: Inputs(member, "", rules, frozenset(), entry)})
        await tree.scan(await tree.look())
        found = {
            path
            for path, digest in (tree.snapshot(member) | tree.named(member)).items()
            if digest is not None
        }
    if kind == "python" and code is not None and pack.wheel is None and str(code) not in found:
        hint = "add it to `sources` of the provider"
        raise problem(f"providers.{provider.name}: {code} is not among the files of its package", hint)
    return found


def _secrets_of(manifest: Manifest) -> Iterable[str]:
    from loop_kit.dev._inputs import secrets_of

    for provider in manifest.providers.values():
        yield from secrets_of((provider.config, provider.env, provider.token, provider.login))
        if provider.tls is not None and provider.tls.key is not None:
            yield str(provider.tls.key)
    for component in manifest.components.values():
        yield from secrets_of((component.args, component.env))


def _decorated(code: Path, cls: str) -> tuple[tuple[str, ...], str | None]:
    """The interfaces and the WIT that `@provider(…)` of a class says, as far as it says it in plain words."""
    try:
        tree = ast.parse(code.read_bytes())
    except (OSError, SyntaxError, ValueError) as e:
        raise problem(f"{code} cannot be read as Python: {e}") from None
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or node.name != cls.rpartition(".")[2]:
            continue
        for call in node.decorator_list:
            if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith("provider"):
                continue
            names = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
            wit = next((key.value for key in call.keywords if key.arg == "wit"), None)
            said = wit.value if isinstance(wit, ast.Constant) and isinstance(wit.value, str) else None
            plain = len(names) == len(call.args)
            return tuple(str(name) for name in names) if plain else (), said
    return (), None


def _wit_files(wit: Path) -> list[Path]:
    return sorted(wit.rglob("*.wit")) if wit.is_dir() else [wit]


def _wit(
    provider: Provider, named: Path | None, near: list[Path], folder: Path
) -> tuple[dict[str, str], Path]:
    """The texts of the WIT, and where it is."""
    wit = named or next((at / "wit" for at in (*near, folder) if (at / "wit").is_dir()), None)
    if wit is None or not wit.exists():
        hint = f'name it: [providers.{provider.name}.pack] wit = "wit"'
        missing = "there is no WIT that says what it serves" if wit is None else f"there is no {wit}"
        raise problem(f"providers.{provider.name}: {missing}", hint)
    base = wit if wit.is_dir() else wit.parent
    try:
        texts = {file.relative_to(base).as_posix(): file.read_text("utf-8") for file in _wit_files(wit)}
    except (OSError, UnicodeDecodeError) as e:
        raise problem(f"providers.{provider.name}: the WIT in {wit} cannot be read: {e}") from None
    if sum(map(len, texts.values())) > _MOST_WIT // 2:
        raise problem(
            f"providers.{provider.name}: the WIT in {wit} has more than {_MOST_WIT // 2} characters"
        )
    return texts, wit


def _exports(
    provider: Provider, wit: Path, wanted: tuple[str, ...], back: tuple[str, ...]
) -> tuple[str, ...]:
    more = _CORE if any(name.startswith("loop:core/") for name in wanted) else None
    try:
        contract = _core.Contract(wit, list(wanted), more)
    except LoadError as e:
        raise problem(
            f"providers.{provider.name}: {e}", "mend the WIT, or name what it serves: pack.exports"
        ) from None
    found = tuple(each.name for each in contract.interfaces() if each.functions and each.name not in back)
    if not found:
        raise problem(f"providers.{provider.name}: the WIT in {wit} has no interface with functions")
    return found
