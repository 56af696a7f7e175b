"""Tools as they run: trees put together, built where they are source, and small scripts that start them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loop_kit.pkg._lock import place_checked
from loop_kit.pkg._model import File, Locked, Node, Platform, failed
from loop_kit.pkg._store import Store, data_folder, key_of

__all__ = ["Program", "assembled", "programs", "shims_folder", "write_shims"]

_LONGEST = 1800.0
"""Seconds that a build may take."""
_SHOWN = 15
_LAUNCHER = "loop-launch"
_BUILT = ("cargo", "go")

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Program:
    """A program of a tool.

    Attributes:
        name: What it is called by.
        alias: The package that it is of.
        command: What runs it: a program, and its first arguments; absolute paths.
    """

    name: str
    alias: str
    command: tuple[str, ...]


def _parts(locked: Locked, here: Platform) -> list[tuple[Node, File]]:
    """What of a tree is for this machine."""
    found: list[tuple[Node, File]] = []
    for node in locked.nodes:
        file = node.file_for(here)
        if file is not None:
            found.append((node, file))
        elif not node.optional:
            raise failed(
                f"{locked.asked.alias}: {node.name} {node.version} is not locked for {here.key}",
                f"`loop pkg update {locked.asked.alias}` on this machine adds it",
            )
    return found


def _key(locked: Locked, here: Platform) -> str:
    parts = _parts(locked, here)
    bins = [list(one) for one in parts[0][1].bins or ()]
    shape = [[node.at, file.key] for node, file in parts]
    return key_of([locked.layout, shape, bins, here.key if _to_build(parts[0][1]) else ""])


def _to_build(file: File) -> bool:
    return any(runner in _BUILT for _, _, runner in file.bins or ())


def place_of(store: Store, locked: Locked, here: Platform) -> Path:
    """The folder that a tool runs from, whether it is there or not."""
    parts = _parts(locked, here)
    if locked.layout == "alone" and not _to_build(parts[0][1]):
        return store.tree(parts[0][1])
    return store.tool(_key(locked, here))


async def assembled(store: Store, locked: Locked, here: Platform, tell: Tell) -> Path:
    """The folder that a tool runs from, made where it is not there; all of its files are in the store.

    Raises:
        PackageError: Something cannot be unpacked, put together or built.
    """
    place = place_of(store, locked, here)
    if place.is_dir():
        return place
    parts = _parts(locked, here)
    trees = [await asyncio.to_thread(store.unpack, file) for _, file in parts]
    if _to_build(parts[0][1]):
        await _build(store, locked, parts[0][1], trees[0], place, tell)
    elif locked.layout != "alone":
        await asyncio.to_thread(_put_together, store, locked, list(zip(parts, trees, strict=True)), place)
    return place


def _put_together(
    store: Store, locked: Locked, parts: Iterable[tuple[tuple[Node, File], Path]], place: Path
) -> None:
    with store.temporary() as folder:
        made = folder / "tool"
        for (node, _), tree in parts:
            into = made / node.at
            if locked.layout == "flat":
                _wheel(tree, into)
            else:
                _link(tree, into)
        for name, path, runner in parts_bins(locked):
            if runner == "python":
                launcher = made / _LAUNCHER / f"{name}.py"
                launcher.parent.mkdir(exist_ok=True)
                launcher.write_text(_launch(name, path, locked.nodes[0].at), "utf-8")
        store.settle(made, place)


def parts_bins(locked: Locked) -> tuple[tuple[str, str, str], ...]:
    """The programs of the package itself on this machine."""
    file = locked.nodes[0].file_for(Platform.here())
    return (file.bins or ()) if file is not None else ()


def _wheel(tree: Path, into: Path) -> None:
    """Puts a wheel where Python looks: what its `.data` has for there goes beside the rest."""
    into.mkdir(parents=True, exist_ok=True)
    for entry in sorted(tree.iterdir()):
        lies = [entry / name for name in ("purelib", "platlib")] if entry.name.endswith(".data") else []
        for folder in lies:
            if folder.is_dir():
                _link(folder, into)
        if entry.is_dir() and not entry.is_symlink():
            _link(entry, into / entry.name)
        else:
            _one(entry, into / entry.name)


def _link(tree: Path, into: Path) -> None:
    """Has the files of a tree in another folder too; they take no more room."""
    for at, folders, files in os.walk(tree):
        target = into / os.path.relpath(at, tree)
        target.mkdir(parents=True, exist_ok=True)
        for name in files + [name for name in folders if os.path.islink(os.path.join(at, name))]:
            _one(Path(at, name), target / name)


def _one(file: Path, target: Path) -> None:
    with contextlib.suppress(FileExistsError):  # two packages of Python may have the same, such as a licence
        if file.is_symlink():
            os.symlink(os.readlink(file), target)
            return
        try:
            os.link(file, target)
        except FileExistsError:
            raise
        except OSError:
            shutil.copy2(file, target)


def _launch(name: str, point: str, at: str) -> str:
    module, _, function = point.partition(":")
    words = [*module.split("."), *function.split(".")]
    if not function or not all(word.isidentifier() for word in words):
        raise failed(f"the program {name} is {point!r}, which is no function of Python")
    return (
        "import os, sys\n"
        f"sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), {at!r}))\n"
        f"from {module} import {function.partition('.')[0]}\n"
        f"sys.argv[0] = {name!r}\n"
        f"sys.exit({function}())\n"
    )


async def _build(store: Store, locked: Locked, file: File, tree: Path, place: Path, tell: Tell) -> None:
    """Has Cargo or Go build it, in a copy."""
    runner = next(runner for _, _, runner in file.bins or () if runner in _BUILT)
    program = shutil.which(runner)
    alias = locked.asked.alias
    if program is None:
        raise failed(
            f"{alias} is source, which {runner} builds, and there is no {runner} in PATH", f"install {runner}"
        )
    tell(f"building {alias} {locked.version} by {runner}, with your rights …")
    with store.temporary() as folder:
        source, made = folder / "source", folder / "tool"
        await asyncio.to_thread(shutil.copytree, tree, source, symlinks=True)
        (made / "bin").mkdir(parents=True)
        env = dict(os.environ)
        if runner == "cargo":
            env["CARGO_TARGET_DIR"] = str(folder / "target")
            # as Cargo does of itself with what comes from a registry: a newer compiler's lints stop nothing
            capped = "--cap-lints=warn"
            config = []
            if "RUSTFLAGS" in env:
                env["RUSTFLAGS"] += f" {capped}"
            else:
                config = ["--config", f'build.rustflags=["{capped}"]']
            locks = ["--locked"] if (source / "Cargo.lock").is_file() else []
            command = [
                program,
                "install",
                "--quiet",
                "--no-track",
                *config,
                *locks,
                "--path",
                ".",
                "--root",
                str(made),
            ]
            await _run(alias, command, source, env)
        else:
            env |= {"GOWORK": "off"}
            for name, path, _ in file.bins or ():
                inside = "." if path == "." else f"./{place_checked(path)}"
                command = [program, "build", "-trimpath", "-o", str(made / "bin" / name), inside]
                await _run(alias, command, source, env)
        if not any((made / "bin").iterdir()):
            raise failed(f"{alias} {locked.version} has no program: {runner} has built none")
        store.settle(made, place)


async def _run(alias: str, command: list[str], folder: Path, env: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_LONGEST):
            output, _ = await process.communicate()
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        if isinstance(error, TimeoutError):
            raise failed(f"{alias} is not built within {_LONGEST:.0f} s") from None
        raise
    if process.returncode:
        lines = output.decode("utf-8", "replace").splitlines()[-_SHOWN:]
        raise failed(
            f"{alias} cannot be built: {command[0]} exited with {process.returncode}\n" + "\n".join(lines)
        )


def programs(store: Store, locked: Locked, here: Platform) -> list[Program]:
    """The programs of a tool that is there.

    Raises:
        PackageError: It has none, or one is not where it should be.
    """
    place, alias = place_of(store, locked, here), locked.asked.alias
    node, file = _parts(locked, here)[0]
    found = []
    for name, path, runner in file.bins or ():
        if runner in _BUILT:
            command: tuple[str, ...] = (str(place / "bin" / name),)
        elif runner == "python":
            python = getattr(sys, "_base_executable", None) or sys.executable
            launcher = place / _LAUNCHER / f"{name}.py"
            if not launcher.is_file():
                raise failed(f"{alias}: the program {name} is {path!r}, which is no function of Python here")
            command = (python, "-I", str(launcher))
        else:
            at = place / (node.at if locked.layout != "alone" else "") / place_checked(path)
            if runner == "native" and not at.is_file():
                at = _called(place, path) or at
            inside = os.path.realpath(at)
            if not inside.startswith(os.path.realpath(place) + os.sep) or not os.path.isfile(inside):
                raise failed(
                    f"{alias}: the program {name} should be {path}, and is not there",
                    f"remove {place}: it is unpacked anew",
                )
            command = _native(at, alias) if runner == "native" else _by_node(at, alias)
        found.append(Program(name, alias, command))
    if not found:
        raise failed(f"{alias} ({locked.asked}) has no program", "it is a library, or not for this use")
    return found


def _called(place: Path, path: str) -> Path | None:
    """A program that another platform's file has at `path`: the one file here that is called so, or is alone."""
    name = os.path.basename(path)
    files = [Path(at, name) for at, _, names in os.walk(place) for name in names]
    found = [file for file in files if file.name in (name, f"{name}.exe", name.removesuffix(".exe"))]
    return found[0] if len(found) == 1 else files[0] if len(files) == 1 else None


def _native(path: Path, alias: str) -> tuple[str, ...]:
    mode = path.stat().st_mode
    if not mode & stat.S_IXUSR:
        path.chmod(mode | 0o755)  # some archives do not say that it is a program
    return (str(path),)


def _by_node(path: Path, alias: str) -> tuple[str, ...]:
    with path.open("rb") as file:
        start = file.read(64)
    if start[:4] == b"\x7fELF" or (start[:2] == b"#!" and b"node" not in start.split(b"\n")[0]):
        return _native(path, alias)
    node = shutil.which("node")
    if node is None:
        raise failed(f"{alias} runs in Node.js, and there is no `node` in PATH", "install Node.js")
    return (node, str(path))


def shims_folder(folder: Path) -> Path:
    """Where the scripts of a workspace are: with its user, so that no folder that came from elsewhere brings its own."""
    return data_folder() / "packages" / "on" / str(folder.resolve()).strip("/") / "@bin"


def write_shims(folder: Path, found: Iterable[Program]) -> Path:
    """Writes the scripts that start the programs of a workspace, and removes others.

    Each is one line for `sh`, which then is the program itself.
    """
    place = shims_folder(folder)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = {program.name: f'#!/bin/sh\nexec {shlex.join(program.command)} "$@"\n' for program in found}
    for name, text in wanted.items():
        path = place / name
        if path.is_file() and path.read_text("utf-8") == text:
            continue
        descriptor, made = tempfile.mkstemp(prefix=".", dir=place)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(made, 0o755)
        os.replace(made, path)
    for entry in place.iterdir():
        if entry.name not in wanted and not entry.name.startswith("."):
            entry.unlink(missing_ok=True)
    return place
