"""Native programs: built for each target, and compared with what they are for."""

from __future__ import annotations

import platform as this
import re
from collections.abc import Sequence
from pathlib import Path

from loop_kit.oci.archive import Entry
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Platform
from loop_kit.oci.platform import this_platform
from loop_kit.pack import sbom
from loop_kit.pack._layers import Part, add_tree
from loop_kit.pack._plan import Plan, Tell, problem
from loop_kit.pack._run import ran
from loop_kit.pack.platforms import platform_of_program, platform_of_triple

__all__ = ["parts", "program_of", "triples"]

_PLACE = re.compile(r"\{(target|os|arch)\}")
_HEAD = 4096


def triples(plan: Plan, targets: Sequence[str]) -> list[str]:
    """What it is built for: what was asked for, else what the manifest says, else this machine.

    Raises:
        PackageError: Two of them are one platform, or all would be the same file.
    """
    wanted = list(dict.fromkeys(targets or plan.pack.targets)) or [_own()]
    where = f"providers.{plan.name}.pack"
    seen: dict[Platform, str] = {}
    for triple in wanted:
        platform = platform_of_triple(triple)
        if platform is None:
            hint = 'write one such as "aarch64-unknown-linux-musl"'
            raise problem(f"{triple!r} is a target of no machine that is known", hint)
        if (other := seen.setdefault(platform, triple)) != triple:
            hint = "name one of them: a static program, of a target with musl, runs with either"
            raise problem(f"{where}: {other} and {triple} are both {platform}", hint)
    if len(wanted) > 1 and not _PLACE.search(plan.entry):
        hint = 'write {target}, or {os} and {arch}, in it: "target/{target}/release/kv"'
        raise problem(f"{where}.program is {plan.entry} for every target", hint)
    return wanted


def _own() -> str:
    system = {"darwin": "apple-darwin", "windows": "pc-windows-msvc", "freebsd": "unknown-freebsd"}
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(this.machine().lower(), this.machine().lower())
    return f"{machine}-{system.get(this_platform().os, 'unknown-linux-gnu')}"


async def parts(plan: Plan, blobs: Blobs, targets: Sequence[str], tell: Tell) -> list[Part]:
    """What its package has: a part for each target."""
    made = []
    for triple in triples(plan, targets):
        platform = platform_of_triple(triple)
        assert platform is not None
        words = _words(triple)
        if plan.pack.build is not None:
            build = plan.pack.build
            command = (
                _filled(build, words)
                if isinstance(build, str)
                else tuple(_filled(word, words) for word in build)
            )
            await ran(command, plan.folder, f"building {plan.name} for {triple}", tell)
        program = program_of(plan, triple)
        _check(plan, program, triple, platform)
        part = Part(f"bin/{program.name}", platform)
        entries = [Entry(part.entry, program, executable=True)]
        entries += [Entry.of(name, path) for name, path in plan.files.items() if name != part.entry]
        add_tree(blobs, entries, f"{plan.name}-{platform.os}-{platform.architecture}.tar.gz", part)
        part.items += _items(plan.project or plan.folder, program)
        made.append(part)
    return made


def program_of(plan: Plan, triple: str) -> Path:
    """Where the program for a target is."""
    return plan.folder / _filled(plan.entry, _words(triple))


def _words(triple: str) -> dict[str, str]:
    platform = platform_of_triple(triple)
    assert platform is not None
    return {"target": triple, "os": platform.os, "arch": platform.architecture}


def _filled(text: str, words: dict[str, str]) -> str:
    return _PLACE.sub(lambda match: words[match[1]], text)


def _check(plan: Plan, program: Path, triple: str, platform: Platform) -> None:
    where = f"providers.{plan.name}"
    try:
        with program.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as e:
        hint = (
            "its build did not make it"
            if plan.pack.build
            else f'build it, or say how: [{where}.pack] build = "…"'
        )
        raise problem(f"{where}: there is no {program} for {triple}: {e.strerror}", hint) from None
    found = platform_of_program(head)
    if found is None:
        if head[:2] == b"#!":
            hint = "ship what it is written in: a Python provider as `python:`, one in Node.js as `node:`"
            raise problem(f"{where}: {program} is a script, and not a program of {platform}", hint)
        raise problem(f"{where}: {program} is no program", "name what the build makes: pack.program")
    if found[1] != platform.architecture or (
        found[0] != platform.os and not (found[0] == "linux" and platform.os == "freebsd")
    ):
        hint = f"have the build make it for {triple}: {{target}}, {{os}} and {{arch}} stand for that"
        raise problem(f"{where}: {program} is for {'/'.join(found)}, not {platform}", hint)


def _items(folder: Path, program: Path) -> list[sbom.Item]:
    lock = folder / "Cargo.lock"
    if lock.is_file():
        return sbom.of_cargo(lock)
    return sbom.of_go(program) if (folder / "go.mod").is_file() else []
