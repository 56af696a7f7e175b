"""Python providers: the source tree, and one layer for each wheel that it needs."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loop_kit.oci.archive import Entry
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Platform
from loop_kit.oci.platform import this_platform
from loop_kit.pack import sbom
from loop_kit.pack._layers import Part, add_file, add_tree
from loop_kit.pack._plan import Plan, Tell, problem
from loop_kit.pack._run import ran
from loop_kit.pack.config import WHEEL, Runtime
from loop_kit.pack.platforms import platform_of_triple

__all__ = ["parts", "requirements_of", "stem", "tags_of", "wants"]

LEAST = (3, 11)
"""The oldest Python that runs loop-kit."""

_WORD = r"[A-Za-z0-9_.+!]+"
_WHEEL = re.compile(
    rf"(?P<stem>{_WORD}-{_WORD}(-\d{_WORD[:-1]}*)?)-(?P<python>{_WORD})-(?P<abi>{_WORD})-(?P<platform>{_WORD})\.whl"
)


def tags_of(wheel: str) -> tuple[list[str], list[str], list[str]]:
    """What a wheel's name says that it is for: versions of Python, ABIs, platforms.

    Raises:
        PackageError: It is no name of a wheel.
    """
    found = _WHEEL.fullmatch(wheel)
    if found is None:
        raise problem(f"{wheel!r} is not named as a wheel is: NAME-VERSION-PYTHON-ABI-PLATFORM.whl")
    return found["python"].split("."), found["abi"].split("."), found["platform"].split(".")


def stem(wheel: str) -> str:
    """Name and version of a wheel, by its own name."""
    tags_of(wheel)  # it is one, so that its name leads nowhere
    return wheel.rsplit("-", 3)[0]


def wants(wheels: Sequence[str], version: tuple[int, int] = sys.version_info[:2]) -> Runtime:
    """The Python that wheels want, which were chosen for one of that version."""
    least = LEAST
    for wheel in wheels:
        pythons, abis, _ = tags_of(wheel)
        if not {"none", "abi3"} & set(abis):
            return Runtime("python", f"{version[0]}.{version[1]}")
        numbers = [(3, int(tag[3:])) for tag in pythons if re.fullmatch(r"(cp|py)3\d+", tag)]
        if numbers and "py3" not in pythons:
            least = max(least, min(numbers))
    return Runtime("python", f">={least[0]}.{least[1]}")


def requirements_of(plan: Plan) -> Path | None:
    """The file with its dependencies, if it has any."""
    if plan.pack.requirements is not None:
        if not plan.pack.requirements.is_file():
            raise problem(f"providers.{plan.name}.pack.requirements: there is no {plan.pack.requirements}")
        return plan.pack.requirements
    beside = plan.folder / "requirements.txt"
    return beside if beside.is_file() else None


async def parts(plan: Plan, blobs: Blobs, targets: Sequence[str], tell: Tell) -> list[Part]:
    """What its package has: one part for all platforms, or for each target one."""
    with tempfile.TemporaryDirectory(prefix="loop-pack-") as temporary:
        wanted: Sequence[str | None] = targets or (None,)
        found: list[tuple[Platform, list[Path]]] = []
        for index, triple in enumerate(wanted):
            folder = Path(temporary) / str(index)
            folder.mkdir()
            wheels = await _wheels(plan, triple, folder, tell)
            platform = this_platform() if triple is None else platform_of_triple(triple)
            assert platform is not None
            found.append((platform, wheels))
        anywhere = all(tags_of(wheel.name)[2] == ["any"] for _, wheels in found for wheel in wheels)
        made = []
        for platform, wheels in found[:1] if anywhere else found:
            part = Part(plan.entry, None if anywhere else platform, wants([wheel.name for wheel in wheels]))
            add_tree(
                blobs,
                [Entry.of(name, path) for name, path in plan.files.items()],
                f"{plan.name}.tar.gz",
                part,
            )
            for wheel in wheels:
                await asyncio.to_thread(_add, wheel, blobs, part)
            made.append(part)
        return made


def _add(wheel: Path, blobs: Blobs, part: Part) -> None:
    import zipfile

    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        part.items.append(sbom.of_wheel(wheel, digest))
        part.layers.append(add_file(blobs, file, WHEEL, wheel.name))
    with zipfile.ZipFile(wheel) as packed:
        part.unpacked += sum(member.file_size for member in packed.infolist())


async def _wheels(plan: Plan, triple: str | None, into: Path, tell: Tell) -> list[Path]:
    """Has pip put the wheels of the requirements, and the provider's own, into a folder."""
    requirements = requirements_of(plan)
    if requirements is not None:
        _refuse_own(requirements)
        pip = (
            sys.executable,
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--no-input",
            "--quiet",
        )
        pinned = (
            "--require-hashes",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--requirement",
            str(requirements),
        )
        hint = (
            f"{requirements.name} must name each dependency with its version and digests, as "
            "`uv pip compile --generate-hashes` or `pip-compile --generate-hashes` write them, and each must have a "
            "wheel"
        )
        what = f"fetching what {plan.name} needs by pip" + (f", for {triple}" if triple else "")
        await ran(
            (*pip, *pinned, *_for(triple), "--dest", str(into)), requirements.parent, what, tell, hint=hint
        )
    found = sorted(into.iterdir())
    if plan.pack.wheel is not None:
        if not plan.pack.wheel.is_file():
            raise problem(
                f"providers.{plan.name}.pack.wheel: there is no {plan.pack.wheel}",
                "build it: pip wheel . --no-deps",
            )
        found.append(plan.pack.wheel)
    return found


def _refuse_own(requirements: Path) -> None:
    text = requirements.read_text("utf-8", "replace")
    if re.search(r"^loop[-_.]kit\b", text, re.MULTILINE | re.IGNORECASE):
        raise problem(f"{requirements} names loop-kit, which the host has", "leave it out")


def _for(triple: str | None) -> tuple[str, ...]:
    """How pip is told to choose wheels for another machine."""
    if triple is None:
        return ()
    platform = platform_of_triple(triple)
    assert platform is not None
    if platform == this_platform() and "musl" not in triple:
        return ()
    machine = triple.partition("-")[0]
    if platform.os == "linux" and "musl" in triple:
        tags = [f"musllinux_1_{minor}_{machine}" for minor in (2, 1)]
    elif platform.os == "linux":
        tags = [f"manylinux_2_{minor}_{machine}" for minor in (28, 27, 26, 24, 17, 12, 5)]
        tags += [f"manylinux{year}_{machine}" for year in (2014, 2010, 1)]
    elif platform.os == "darwin":
        names = ("arm64" if platform.architecture == "arm64" else "x86_64", "universal2")
        tags = [
            f"macosx_{major}_{minor}_{n}"
            for n in names
            for major, minor in ((11, 0), (10, 13), (10, 12), (10, 9))
        ]
    else:
        tags = ["win_arm64" if platform.architecture == "arm64" else "win_amd64"]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    chosen = [word for tag in tags for word in ("--platform", tag)]
    return (*chosen, "--python-version", version, "--implementation", "cp")
