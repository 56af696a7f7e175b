"""Makes what `loop dev` loads of a component with a `dev`: its engine, built when its world changes, and its code."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop_kit.bind._resolve import bound
from loop_kit.dev._command import Ran
from loop_kit.dev.engine import Code, join, recipe
from loop_kit.dev.engine._driver import Driver, Refused
from loop_kit.errors import LoadError
from loop_kit.manifest import Component, Manifest
from loop_kit.pkg import Tools
from loop_kit.placements._exit import Exit

__all__ = ["Maker", "Makers", "in_development"]

_HERE = Path(__file__).parent
_LOADER = (_HERE / "loader.js").read_text
_WIT = _HERE.parents[1] / "capabilities" / "devserver" / "wit" / "devserver.wit"
_KEPT = 8
"""Engines of a workspace that are kept, the ones used last."""
_WARM = 4
"""Processes that stay, those of the components that were made last: each takes some 100 MB."""
_WORLD = """package loop:engine;

world engine {{
  include {world};
  include loop:devserver/engine@0.1.0-dev;
}}
"""


@dataclass(frozen=True, slots=True)
class _World:
    """The world that an engine is to be for.

    Attributes:
        folder: Its WIT, and that of an engine.
        digest: Of all that decides what the engine is, apart from packages.
        loader: The JavaScript that takes up code.
        options: Of componentize-qjs.
    """

    folder: Path
    digest: str
    loader: str
    options: dict[str, Any]


def in_development(manifest: Manifest) -> Manifest:
    """The manifest with its components as `loop dev` makes them: those with a `dev` by that, and elsewhere."""
    components = {}
    for name, component in manifest.components.items():
        if component.dev is not None:
            shown = (os.path.relpath(component.dev, manifest.folder),)
            path = _state(manifest.folder) / "made" / f"{name}.wasm"
            component = replace(component, path=path, build=shown)
        components[name] = component
    return replace(manifest, components=components)


def _state(folder: Path) -> Path:
    return folder / ".loop" / "dev"


class Makers:
    """Makes the components of a workspace that have a `dev`.

    Args:
        folder: The workspace's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._makers: dict[str, Maker] = {}
        """The one that was used last is the last."""
        self._busy: Counter[str] = Counter()

    async def make(
        self,
        component: Component,
        snapshot: dict[str, str | None],
        tools: Tools,
        tell: Callable[[str], object] = lambda text: None,
    ) -> Ran:
        """Makes one, as `Maker.make` does."""
        name = component.name
        self._busy[name] += 1
        try:
            maker = self._makers.pop(name, None)
            if maker is None or maker.script != component.dev:
                if maker is not None:
                    await maker.aclose()
                maker = Maker(component, self._folder, _state(self._folder))
            self._makers[name] = maker
            return await maker.make(component.path, snapshot, tools, tell)
        finally:
            self._busy[name] -= 1
            idle = [each for each in self._makers if not self._busy[each]]
            for each in idle[: max(0, len(self._makers) - _WARM)]:
                await self._makers.pop(each).aclose()

    async def replace(self, manifest: Manifest) -> None:
        """Goes on with another manifest: ends what is of components that are not made this way any more."""
        for name in [*self._makers]:
            component = manifest.components.get(name)
            if component is None or component.dev is None:
                await self._makers.pop(name).aclose()

    async def aclose(self) -> None:
        """Ends all that runs. Again is harmless."""
        for name in [*self._makers]:
            await self._makers.pop(name).aclose()


class Maker:
    """Makes one component, as often as it is asked.

    Args:
        component: The component.
        folder: The workspace's.
        state: A folder for what is made: engines, and scratch.

    Attributes:
        script: The script of its `dev`.
    """

    def __init__(self, component: Component, folder: Path, state: Path) -> None:
        assert component.dev is not None
        self.script = component.dev
        self._folder, self._state = folder, state
        self._name = component.name
        self._driver: Driver | None = None
        self._world: _World | None = None
        self._engine: tuple[tuple[str, ...], Path] | None = None
        self._bundled: set[str] = set()
        self._before: dict[str, str | None] = {}
        self._recipe = ""

    async def make(
        self,
        output: Path,
        snapshot: dict[str, str | None],
        tools: Tools,
        tell: Callable[[str], object] = lambda text: None,
    ) -> Ran:
        """Makes the component.

        Args:
            output: The file to make.
            snapshot: The digests of all its inputs. What is not code of the bundle, such as the script itself or WIT,
                has everything begin anew when it changes.
            tools: Those of the workspace; others have everything begin anew, too.
            tell: Told, in words, what takes a while.

        Raises:
            OSError: Something cannot be written.
        """
        different = {
            path
            for path in snapshot.keys() | self._before.keys()
            if snapshot.get(path) != self._before.get(path)
        }
        made_by = recipe(tools)
        if not different <= self._bundled or made_by != self._recipe:
            await self.aclose()
        self._before, self._recipe = snapshot, made_by
        try:
            return Ran(Exit(0), await self._made(output, tools, tell))
        except (Refused, LoadError) as error:
            hint = getattr(error, "hint", None)
            return Ran(Exit(1), f"{error}\nhint: {hint}" if hint else str(error))

    async def _made(self, output: Path, tools: Tools, tell: Callable[[str], object]) -> str:
        if self._driver is None:
            self._driver = Driver(self.script, self._folder, tools, tell)
        if self._world is None:
            self._world = await self._look(self._driver)
        bundle = await self._driver.ask("bundle")
        self._bundled = set(bundle["inputs"])
        packages = tuple(bundle["packages"])
        if self._engine is None or self._engine[0] != packages or not self._engine[1].is_file():
            self._engine = packages, await self._build(self._driver, self._world, packages)
        sources = [os.path.relpath(source, self._folder) for source in bundle["map"]["sources"]]
        lines = json.dumps({"sources": sources, "mappings": bundle["map"]["mappings"]}, separators=(",", ":"))
        engine, code = self._engine[1], Code(bundle["text"], lines)
        await asyncio.to_thread(_write, output, engine, code)
        return "\n".join(filter(None, (bundle["said"], bundle["warnings"])))

    async def _look(self, driver: Driver) -> _World:
        """Gathers the WIT of the component's world, and makes the loader that fits it."""
        folder = self._state / "wit" / self._name
        shutil.rmtree(folder, ignore_errors=True)
        theirs = folder / "theirs"
        theirs.mkdir(parents=True)
        told = await driver.ask("wit", folder=str(theirs))
        world = await asyncio.to_thread(_engine_world, theirs, folder, told["world"])
        found = await asyncio.to_thread(bound, folder, "engine", ())
        own = "loop:devserver/"
        # resources of an interface that another one uses can be imported too
        exported = {each.name for each in found.exports}
        imports = [each.name for each in found.used if each.functions and each.name not in exported]
        imports = [name for name in imports if name and not name.startswith(f"{own}source")]
        lines = [f"import * as m{at} from {json.dumps(name)};" for at, name in enumerate(imports)]
        lines += [
            f"MODULES.set({json.dumps(called)}, guarded({json.dumps(name)}, m{at}));"
            for at, name in enumerate(imports)
            for called in {name, name.partition("@")[0]}  # by its name without a version too
        ]
        exports = []
        for each in found.exports:
            if not each.name:
                exports += [
                    f"export const {_camel(f.name)} = call({json.dumps(_camel(f.name))});"
                    for f in each.functions
                ]
            elif not each.name.startswith(f"{own}hot"):
                name = _camel(each.name.partition("/")[2].partition("@")[0])
                exports.append(f"export const {name} = face({json.dumps(name)});")
        loader = _LOADER().replace("IMPORTS;", "\n".join(lines)).replace("EXPORTS;", "\n".join(exports))
        what = json.dumps([found.digest, world, loader, told["options"], told["versions"]], sort_keys=True)
        return _World(folder, what, loader, told["options"])

    async def _build(self, driver: Driver, world: _World, packages: tuple[str, ...]) -> Path:
        """The engine for a world, with packages; it is built where there is none."""
        held = (await driver.ask("hold", packages=packages))["text"]
        digest = hashlib.sha256(f"{world.digest}\n{held}".encode()).hexdigest()
        engines = self._state / "engines"
        engine = engines / f"{digest}.wasm"
        if not engine.is_file():
            engines.mkdir(parents=True, exist_ok=True)
            for stray in engines.glob(f".{self._name}~*"):
                stray.unlink(missing_ok=True)  # of a build that nobody waited for
            copy = engines / f".{self._name}~{secrets.token_hex(4)}"
            try:
                await driver.ask(
                    "engine",
                    loader=world.loader,
                    packages=held,
                    wit=str(world.folder),
                    output=str(copy),
                    options=world.options,
                )
                os.replace(copy, engine)
            finally:
                copy.unlink(missing_ok=True)
        os.utime(engine)
        for old in sorted(engines.glob("*.wasm"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
        return engine

    async def aclose(self) -> None:
        """Ends what runs; the next time everything is looked at anew. Again is harmless."""
        if self._driver is not None:
            await self._driver.aclose()
        self._driver = self._world = self._engine = None
        self._bundled = set()


def _write(output: Path, engine: Path, code: Code) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    copy = output.with_name(f".{output.name}.{secrets.token_hex(4)}~")
    try:
        copy.write_bytes(join(engine.read_bytes(), code))
        os.replace(copy, output)
    finally:
        copy.unlink(missing_ok=True)


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_PACKAGE = re.compile(r"^\s*package\s+([^;{\s]+)\s*;", re.MULTILINE)
_WORLDS = re.compile(r"\bworld\s+%?([a-z][a-z0-9-]*)\s*\{", re.IGNORECASE)


def _engine_world(theirs: Path, folder: Path, world: str | None) -> str:
    """Makes a world of a component's own and of what an engine adds; the name of the component's.

    Raises:
        LoadError: Which is the component's is not clear.
    """
    texts = {path: _COMMENT.sub("", path.read_text("utf-8")) for path in sorted(theirs.glob("*.wit"))}
    package = next((found[1] for text in texts.values() if (found := _PACKAGE.search(text))), None)
    worlds = [name for text in texts.values() for name in _WORLDS.findall(text)]
    if package is None:
        raise LoadError(
            f"the WIT that `dev` names has no `package …;`: {', '.join(p.name for p in texts) or 'no file'}"
        )
    if world is None and len(worlds) != 1:
        raise LoadError(
            f"which world is the component's? `dev` names none, and its WIT has {', '.join(worlds) or 'none'}"
        )
    bare, at, version = package.partition("@")
    name = f"{bare}/{world or worlds[0]}{at}{version}"
    deps = folder / "deps"
    deps.mkdir()
    for entry in (theirs / "deps").iterdir() if (theirs / "deps").is_dir() else ():
        entry.rename(deps / entry.name)
    _keep_only(theirs, texts)
    theirs.rename(deps / "component")
    if not _has(deps, "loop:devserver"):
        shutil.copyfile(_WIT, deps / "loop-devserver.wit")
    (folder / "engine.wit").write_text(_WORLD.format(world=name))
    return name


def _keep_only(folder: Path, files: Iterable[Path]) -> None:
    """Leaves nothing in a folder but its own WIT: what else lies there is not of the package."""
    for entry in [*folder.iterdir()]:
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry not in files:
            entry.unlink()


def _has(deps: Path, package: str) -> bool:
    return any(
        _PACKAGE.search(text)
        and text[_PACKAGE.search(text).start() :].lstrip().startswith(f"package {package}")  # type: ignore[union-attr]
        for path in deps.rglob("*.wit")
        for text in [_COMMENT.sub("", path.read_text("utf-8"))]
    )


def _camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)
