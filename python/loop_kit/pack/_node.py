"""Node.js providers: the source tree, and what `npm ci` puts beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loop_kit.oci.archive import Entry
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Platform
from loop_kit.oci.platform import this_platform
from loop_kit.pack import sbom
from loop_kit.pack._layers import Part, add_tree, folder_entries
from loop_kit.pack._plan import Plan, Tell, problem
from loop_kit.pack._run import ran
from loop_kit.pack.config import Runtime
from loop_kit.pack.platforms import platform_of_triple

__all__ = ["lock_of", "parts", "project_of"]

_LEAST = ">=20"
_CPUS = {"amd64": "x64", "arm64": "arm64", "arm": "arm", "386": "ia32", "ppc64le": "ppc64", "s390x": "s390x"}
# what npm writes for itself, with the addresses of registries
_ITS_OWN = frozenset((".package-lock.json",))


def project_of(plan: Plan) -> Path | None:
    """The folder with the provider's package.json, if there is one."""
    code = plan.folder / plan.entry
    if "node_modules" in code.parts:
        code = Path(*code.parts[: code.parts.index("node_modules")], "package.json")
    for at in code.parents:
        if (at / "package.json").is_file():
            return at
        if at == plan.folder:
            break
    return None


def lock_of(project: Path, name: str) -> dict[str, Any] | None:
    """The lock of a project; None where it depends on nothing.

    Raises:
        PackageError: It depends on something, and there is no lock; or one of them cannot be read.
    """
    try:
        said = json.loads((project / "package.json").read_text("utf-8"))
        needs = said.get("dependencies") or said.get("optionalDependencies")
        lock = project / "package-lock.json"
        if not lock.is_file():
            if not needs:
                return None
            hint = f"npm install --package-lock-only --prefix {project}"
            raise problem(
                f"providers.{name}: {project}/package.json names dependencies, and there is no package-lock.json",
                hint,
            )
        found: dict[str, Any] = json.loads(lock.read_text("utf-8"))
        if not isinstance(found.get("packages"), dict):
            raise problem(
                f"{lock} is of an old form that does not say what is where", "npm install --package-lock-only"
            )
        return found
    except (OSError, ValueError, AttributeError) as e:
        raise problem(
            f"providers.{name}: package.json or package-lock.json of {project} cannot be read: {e}"
        ) from None


async def parts(plan: Plan, blobs: Blobs, targets: Sequence[str], tell: Tell) -> list[Part]:
    """What its package has: one part for all platforms, or for each target one."""
    project = project_of(plan)
    lock = None if project is None else lock_of(project, plan.name)
    files = dict(plan.files)
    if project is not None:
        at = project / "package.json"  # it says how the files are to be read
        files.setdefault(at.relative_to(plan.folder).as_posix(), at)
    runtime = Runtime("node", _engine(project))
    wanted: Sequence[str | None] = targets or (None,)
    made: list[Part] = []
    with tempfile.TemporaryDirectory(prefix="loop-pack-") as temporary:
        for index, triple in enumerate(wanted):
            platform = this_platform() if triple is None else platform_of_triple(triple)
            assert platform is not None
            part = Part(plan.entry, platform, runtime)
            add_tree(
                blobs, [Entry.of(name, path) for name, path in files.items()], f"{plan.name}.tar.gz", part
            )
            bound = False
            if project is not None and lock is not None:
                into = Path(temporary) / str(index)
                into.mkdir()
                bound = await _modules(plan, project, lock, triple, into, blobs, part, tell)
            if not bound:
                part.platform = None
                return [part]
            made.append(part)
    return made


async def _modules(
    plan: Plan,
    project: Path,
    lock: Mapping[str, Any],
    triple: str | None,
    into: Path,
    blobs: Blobs,
    part: Part,
    tell: Tell,
) -> bool:
    """Has npm install what is needed to run, and adds it; returns whether it is for one platform alone."""
    if shutil.which("npm") is None:
        raise problem(
            f"providers.{plan.name}: its dependencies are installed by npm, and there is none in PATH",
            "install Node.js with npm",
        )
    for name in ("package.json", "package-lock.json", ".npmrc"):
        if (project / name).is_file():
            shutil.copy(project / name, into)
    for said in lock["packages"].values():
        _bring(str(said.get("resolved", "")), project, into, plan.name)
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    hint = (
        "is package-lock.json up to date (`npm install --package-lock-only`), and the registry within reach that "
        "`npm config list` shows?"
    )
    what = f"fetching what {plan.name} needs by npm" + (f", for {triple}" if triple else "")
    command = (
        "npm",
        "ci",
        "--ignore-scripts",
        "--omit=dev",
        "--no-global",
        *quiet,
        *_for(triple, part.platform),
    )
    await ran(command, into, what, tell, hint=hint)
    modules = into / "node_modules"
    if not modules.is_dir():
        return False
    for path in modules.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(into.resolve()):
            at, to = path.relative_to(into), os.readlink(path)
            hint = "depend on what `npm pack` makes of it: npm install ./NAME-VERSION.tgz"
            raise problem(
                f"providers.{plan.name}: {at} is a link to {to}, a folder outside of the package", hint
            )
    if part.entry.partition("/")[0] == "node_modules" or "/node_modules/" in part.entry:
        real = (into / Path(plan.folder / part.entry).relative_to(project)).resolve()
        if not real.is_file():
            raise problem(
                f"providers.{plan.name}: npm has not put {part.entry} there",
                "is it a dependency in package.json?",
            )
        part.entry = (project.relative_to(plan.folder) / real.relative_to(into.resolve())).as_posix()
    there = [name for name in lock["packages"] if name and (into / name / "package.json").is_file()]
    part.items += sbom.of_npm(lock, there)
    base = (project.relative_to(plan.folder) / "node_modules").as_posix()
    add_tree(blobs, folder_entries(modules, base, _ITS_OWN), "node_modules.tar.gz", part)
    return _bound(lock, there) or any(modules.rglob("*.node"))


def _bring(resolved: str, project: Path, into: Path, name: str) -> None:
    """Copies an archive that the lock finds by its path; folders are found by links, which are looked at later."""
    if not resolved.startswith("file:"):
        return
    path = os.path.normpath(project / resolved.removeprefix("file:"))
    inside = os.path.relpath(path, project)
    if inside.startswith("..") or not os.path.isfile(path):
        hint = "put what `npm pack` makes of it beside package.json: npm install ./NAME-VERSION.tgz"
        raise problem(f"providers.{name}: the dependency {resolved} is no file of {project}", hint)
    (into / inside).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, into / inside)


def _bound(lock: Mapping[str, Any], there: Sequence[str]) -> bool:
    return any(lock["packages"][name].get(key) for name in there for key in ("os", "cpu", "libc"))


def _for(triple: str | None, platform: Platform | None) -> tuple[str, ...]:
    """How npm is told to choose packages for another machine."""
    if triple is None or platform is None:
        return ()
    cpu = _CPUS.get(platform.architecture, platform.architecture)
    system = "win32" if platform.os == "windows" else platform.os
    libc = () if system != "linux" else ("--libc=musl",) if "musl" in triple else ("--libc=glibc",)
    return f"--os={system}", f"--cpu={cpu}", *libc


def _engine(project: Path | None) -> str:
    """The Node.js that the project asks for, where it says so in one number."""
    if project is None:
        return _LEAST
    said = json.loads((project / "package.json").read_text("utf-8")).get("engines", {})
    found = (
        re.fullmatch(r"\s*>=\s*v?(\d+(?:\.\d+){0,2})\s*", str(said.get("node", "")))
        if isinstance(said, dict)
        else None
    )
    return f">={found[1]}" if found else _LEAST
