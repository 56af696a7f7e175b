"""From a source of WIT to what is to be bound: names resolved, worlds opened."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from loop_kit import _core
from loop_kit.bind._model import (
    Bound,
    Definition,
    Interface,
    Member,
    Name,
    Named,
    Package,
    Type,
    World,
    plain,
)
from loop_kit.bind._parse import parse
from loop_kit.errors import LoadError

__all__ = ["bound", "worlds"]

_MAGIC = b"\0asm"
# A component that would take more memory than this as text, or a folder with more, is no source of types.
_LARGEST = 64 << 20


def bound(source: str | os.PathLike[str], world: str | None, interfaces: Sequence[str]) -> Bound:
    """What `source` has to bind.

    Raises:
        LoadError: It is no WIT and no component, is not sound, or lacks what is asked for.
    """
    path = Path(source)
    read, component = _read(path)
    packages: dict[str, Package] = {}
    main = ""
    for file in read:
        for package in file.packages:
            if package.name:
                main = main or package.name
                _merge(packages.setdefault(package.name, Package(package.name)), package)
            elif package.interfaces or package.worlds or package.aliases:
                raise LoadError(f"{file.name}: no file of its folder says `package …;`")
    digest = _digest(file.text for file in read)
    return _Resolver(packages, main, digest).bound(path, world, interfaces, component)


def worlds(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the worlds of the package in a folder. What they use need not be there.

    Raises:
        LoadError: It is no WIT.
        OSError: It cannot be read.
    """
    return tuple(name for file in _folder(Path(folder)) for name in file.packages[0].worlds)


class _File:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.packages = parse(text, name)


def _read(path: Path) -> tuple[list[_File], bool]:
    """The files of the source, the main package's first; whether it is a component."""
    if not path.exists():
        raise LoadError(f"{path}: there is no such file or folder")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) == _MAGIC:
                file.seek(0)
                try:
                    wit = str(_core.inspect(file.read())["wit"])
                except LoadError as error:
                    raise LoadError(f"{path}: {error}") from None
                if wit.startswith("// WIT cannot"):
                    raise LoadError(f"{path}: {wit[3:].strip()}")
                return [_File(path.name, wit)], True
    try:
        _core.Contract(path, [])  # says what is not sound, and where
    except LoadError as error:
        told = str(error)
        raise LoadError(told if told.startswith(str(path)) else f"{path}: {told}") from None
    if path.is_file():
        return [_File(path.name, _text(path))], False
    files = _folder(path)
    deps = path / "deps"
    for entry in sorted(deps.iterdir()) if deps.is_dir() else ():
        if entry.is_dir():
            files += _folder(entry)
        elif entry.suffix == ".wit":
            files.append(_File(entry.name, _text(entry)))
        elif entry.suffix == ".wasm":
            raise LoadError(
                f"{entry}: WIT in binary form cannot be bound; have it as text, as `wkg wit fetch` does"
            )
    return files, False


def _folder(folder: Path) -> list[_File]:
    """The files of one package, of which any may say what it is called."""
    files = [_File(path.name, _text(path)) for path in sorted(folder.glob("*.wit"))]
    name = next((file.packages[0].name for file in files if file.packages[0].name), "")
    for file in files:
        file.packages[0].name = file.packages[0].name or name
    return files


def _text(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        raise LoadError(f"{path}: larger than {_LARGEST >> 20} MiB, which no WIT is")
    return path.read_text("utf-8")


def _digest(texts: Iterable[str]) -> str:
    """Of what is said, in whatever files and order: names of files do not count."""
    each = sorted(hashlib.sha256(text.encode()).digest() for text in texts)
    return hashlib.sha256(b"".join(each)).hexdigest()


def _merge(into: Package, more: Package) -> None:
    into.interfaces |= more.interfaces
    into.worlds |= more.worlds
    into.aliases |= more.aliases


class _Resolver:
    def __init__(self, packages: dict[str, Package], main: str, digest: str) -> None:
        self._packages = packages
        self._main = main
        self._digest = digest
        self._done: dict[int, Interface] = {}
        self._used: list[Interface] = []
        self._named: dict[str, Interface] = {}
        self._elsewhere: dict[str, Definition] = {}
        for package in packages.values():
            for name, interface in package.interfaces.items():
                interface.name = package.full(name)
                self._named[interface.name] = interface

    def bound(self, path: Path, world: str | None, wanted: Sequence[str], component: bool) -> Bound:
        main = self._packages[self._main]
        if wanted and world:
            raise LoadError("a world and interfaces at once: name one or the other")
        if component and world is not None:
            raise LoadError(
                f"{path}: a component has one world, its own; leave {world} out, or name interfaces"
            )
        if component:
            self._elsewhere = self._unsaid()
        if component and not wanted:
            world = next(iter(main.worlds))
        if not wanted and world is None and not main.interfaces:
            if len(main.worlds) != 1:
                raise LoadError(f"{path}: which world is meant? There are {', '.join(main.worlds) or 'none'}")
            world = next(iter(main.worlds))
        if world is not None:
            return self._world(path, world, component)
        chosen = [self._find(path, name) for name in wanted] or list(main.interfaces.values())
        for interface in chosen:
            self._resolve(interface, self._package_of(interface.name))
        title = ", ".join(interface.name for interface in chosen) if wanted else self._main
        return Bound(title, self._digest, chosen, chosen, self._used, False)

    def _unsaid(self) -> dict[str, Definition]:
        """Types by names that only one interface has.

        A component may export a function with a type of an interface that it imports, and not say so by `use`.
        """
        found: dict[str, list[Definition]] = {}
        for interface in self._named.values():
            for name, definition in interface.types.items():
                found.setdefault(name, []).append(definition)
        return {name: those[0] for name, those in found.items() if len(those) == 1}

    def _world(self, path: Path, name: str, component: bool) -> Bound:
        package, world = self._find_world(path, name)
        imports, exports = Interface(""), Interface("")
        sides: tuple[list[Interface], list[Interface]] = ([], [])
        self._open(package, world, {}, sides, (imports, exports))
        for side, root in zip(sides, (imports, exports), strict=True):
            if root.functions or root.types:
                side.append(root)
            for interface in side:
                scope = imports if interface is exports else None
                self._resolve(
                    interface,
                    package if "/" not in interface.name else self._package_of(interface.name),
                    scope,
                )
        for interface in self._named.values() if component else ():
            self._resolve(interface, self._package_of(interface.name))
        bare, at, version = package.name.partition("@")
        title = f"{bare}/{world.name}{at}{version}"
        if component:
            title = "a component"  # which has no name of its own
        return Bound(title, self._digest, *sides, self._used, True, component)

    def _open(
        self,
        package: Package,
        world: World,
        renamed: dict[str, str],
        sides: tuple[list[Interface], list[Interface]],
        roots: tuple[Interface, Interface],
    ) -> None:
        """Adds what a world has, and what those have that it includes."""
        for items, side, root, own in (
            (world.imports, sides[0], roots[0], world.root_imports),
            (world.exports, sides[1], roots[1], world.root_exports),
        ):
            for item in items:
                found = item if isinstance(item, Interface) else self._path(package, item)
                if isinstance(item, Interface) and item.name in renamed:
                    found.name = renamed[item.name]
                if found not in side:
                    side.append(found)
            for function in own.functions:
                function.name = renamed.get(function.name, function.name)
                if all(function.name != other.name for other in root.functions):
                    root.functions.append(function)
            for name, definition in own.types.items():
                root.types.setdefault(renamed.get(name, name), definition)
            for name, use in own.uses.items():
                target = self._path(package, use[0])
                root.uses.setdefault(renamed.get(name, name), (target.name, use[1]))
        for path, renames in world.includes:
            path = package.aliases.get(path, path)
            where, other = _split(path) if "/" in path else (package.name, path)
            holder = self._packages.get(where)
            if holder is None or other not in holder.worlds:
                raise LoadError(f"there is no world {path} to include")
            self._open(holder, holder.worlds[other], renames, sides, roots)

    def _find(self, path: Path, name: str) -> Interface:
        """By its full name, or without the version, or without the package."""
        fits = [
            found
            for full, found in self._named.items()
            if name in (full, full.partition("@")[0])
            or (name == found.bare and self._package_of(full).name == self._main)
        ]
        if len(fits) == 1:
            return fits[0]
        raise LoadError(f"{path}: {_which('interface', name, self._named, [f.name for f in fits])}")

    def _find_world(self, path: Path, name: str) -> tuple[Package, World]:
        all_of = {p.full(w): (p, world) for p in self._packages.values() for w, world in p.worlds.items()}
        fits = {
            full: found
            for full, found in all_of.items()
            if name in (full, full.partition("@")[0])
            or (name == found[1].name and found[0].name == self._main)
        }
        if len(fits) == 1:
            return next(iter(fits.values()))
        raise LoadError(f"{path}: {_which('world', name, all_of, list(fits))}")

    def _package_of(self, interface: str) -> Package:
        return self._packages[_split(interface)[0]]

    def _path(self, package: Package, path: str) -> Interface:
        """The interface that a path names in a package."""
        path = package.aliases.get(path, path)
        found = self._named.get(path if "/" in path else package.full(path))
        if found is None:
            raise LoadError(f"there is no interface {path}")
        return found

    def _resolve(self, interface: Interface, package: Package, scope: Interface | None = None) -> None:
        """Puts definitions in the places of names, in what the interface uses first."""
        if id(interface) in self._done:
            return
        self._done[id(interface)] = interface
        found = dict(self._elsewhere)
        if scope is not None:
            for name in (*scope.types, *scope.uses):
                found[name] = self._lookup(scope, package, name)
        for path, _ in interface.uses.values():
            used = self._path(package, path)
            self._resolve(used, self._package_of(used.name))
        for name in (*interface.types, *interface.uses):
            found[name] = self._lookup(interface, package, name)
        for definition in interface.types.values():
            definition.interface = interface.name
            _replace_all(definition.members, found)
        for function in interface.functions:
            _replace_all(function.params, found)
            function.result = _replaced(function.result, found)
        self._used.append(interface)

    def _lookup(self, interface: Interface, package: Package, name: str) -> Definition:
        if name in interface.uses:
            path, there = interface.uses[name]
            used = self._path(package, path)
            return self._lookup(used, self._package_of(used.name), there)
        if name not in interface.types:
            raise LoadError(f"there is no type {name} in {interface.name or 'the world'}")
        definition = interface.types[name]
        if definition.kind == "alias" and isinstance(target := definition.members[0].type, Name):
            # at once, so that it is known of any name whether it is a resource's
            definition.members[0].type = _used(self._lookup(interface, package, target.text))
        return definition


def _split(path: str) -> tuple[str, str]:
    """`acme:kv@0.1.0` and `store`, of `acme:kv/store@0.1.0`."""
    bare, at, version = path.partition("@")
    package, _, name = bare.rpartition("/")
    return f"{package}{at}{version}", name


def _used(definition: Definition) -> Type | Named:
    """What a name alone stands for: of a resource, one that is owned."""
    named = Named(definition)
    end = plain(named)
    if isinstance(end, Named) and end.definition.kind != "resource":
        return named
    if isinstance(end, Named):
        return Type("own", (named,))
    return Type("own", (named,)) if isinstance(end, Type) and end.kind == "own" else named


def _replace_all(members: list[Member], found: dict[str, Definition]) -> None:
    for member in members:
        member.type = _replaced(member.type, found)


def _replaced(type: Type | Named | Name | None, found: dict[str, Definition]) -> Type | Named | None:
    if isinstance(type, Name):
        if type.text not in found:
            raise LoadError(f"{type.place()}: there is no type {type.text}")
        return _used(found[type.text])
    if not isinstance(type, Type):
        return type
    parts: tuple[Type | Named | Name | None, ...] = tuple(_replaced(part, found) for part in type.parts)
    if type.kind in ("own", "borrow"):
        # of the resource, not of one that is owned, as its name alone would be
        parts = tuple(part.parts[0] if isinstance(part, Type) else part for part in parts)
    return Type(type.kind, parts, type.length)


def _which(what: str, name: str, known: Iterable[str], fits: list[str]) -> str:
    if fits:
        return f"{name} is the name of several: {', '.join(fits)}"
    near = difflib.get_close_matches(name, list(_forms(known)), 1)
    there = ", ".join(known) or "none"
    return f"there is no {what} {name}" + (f" (did you mean {near[0]}?)" if near else f"; there are: {there}")


def _forms(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from (name, name.partition("@")[0], name.partition("@")[0].rpartition("/")[2])
