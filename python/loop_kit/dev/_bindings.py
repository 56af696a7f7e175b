"""The types of WIT that members of a workspace have: what their `bind` in the manifest says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loop_kit._modules import file_of
from loop_kit.bind import MARK, bindings, is_current, write
from loop_kit.dev._command import work_of
from loop_kit.errors import LoadError
from loop_kit.manifest import Bind, Component, Manifest, Provider

__all__ = ["Declared", "declared", "wit_of"]


@dataclass(frozen=True, slots=True)
class Declared:
    """The types of one member.

    Attributes:
        name: Where the manifest says so: `components.site.bind`.
        wit: The WIT, or a component.
        files: Language and file of each that is written.
        world: As in `loop_kit.bind.bindings`.
        interfaces: Likewise.
        guest: Whether declarations in TypeScript are for a component.
    """

    name: str
    wit: Path
    files: tuple[tuple[str, Path], ...]
    world: str | None
    interfaces: tuple[str, ...]
    guest: bool

    @property
    def owner(self) -> tuple[str, str]:
        """Kind and name of the member."""
        kind, name, _ = self.name.split(".")
        return kind.removesuffix("s"), name

    def write(self, *, check: bool = False) -> dict[Path, bool]:
        """Has the files say what the WIT says; which of them did not. `check` only looks.

        Raises:
            LoadError: There is no WIT, or it is not sound; or a file is none that was made of WIT.
            OSError: A file cannot be read or written.
        """
        if not self.wit.exists():
            raise LoadError(f"{self.name}: there is no {self.wit}: `wit` says where the WIT is")
        made = {}
        for language, file in self.files:
            guest = self.guest and language == "typescript"
            found = bindings(self.wit, language, world=self.world, interfaces=self.interfaces, guest=guest)
            made[file] = found.text
            self._may_replace(file)
        return {
            file: not is_current(file, text) if check else write(file, text) for file, text in made.items()
        }

    def _may_replace(self, file: Path) -> None:
        """Raises LoadError where somebody has written the file, so that no code is lost to a slip of the pen."""
        try:
            with file.open("rb") as there:
                head = there.read(200)
        except FileNotFoundError:
            return
        if head.strip() and MARK.encode() not in head:
            raise LoadError(
                f"{self.name}: {file} was not made by `loop bind`: remove it, or name another file"
            )


def declared(manifest: Manifest) -> tuple[Declared, ...]:
    """All that a manifest says of types."""
    return tuple(_declared(manifest))


def _declared(manifest: Manifest) -> Iterator[Declared]:
    members: list[Component | Provider] = [*manifest.components.values(), *manifest.providers.values()]
    for member in members:
        if (bind := member.bind) is None:
            continue
        kind = "components" if isinstance(member, Component) else "providers"
        wit = wit_of(member, manifest.folder)
        yield Declared(
            f"{kind}.{member.name}.bind", wit, _files(bind), bind.world, bind.interfaces, kind == "components"
        )


def _files(bind: Bind) -> tuple[tuple[str, Path], ...]:
    named = (("python", bind.python), ("typescript", bind.typescript))
    return tuple((language, file) for language, file in named if file is not None)


def wit_of(member: Component | Provider, folder: Path) -> Path:
    """The WIT of a member of the workspace in `folder`: what its `bind` says, or the folder `wit` of its code."""
    if member.bind is not None and member.bind.wit is not None:
        return member.bind.wit
    if isinstance(member, Component):
        return (folder if member.build is None else work_of(member.build, folder)) / "wit"
    if (module := member.module) is not None:
        found = file_of(module, folder) or folder.joinpath(*module.split("."))
        return Path(os.path.dirname(found)) / "wit"
    if member.path is None:
        return folder / "wit"
    beside, above = member.path.parent / "wit", member.path.parent.parent / "wit"
    return above if above.is_dir() and not beside.is_dir() and above.is_relative_to(folder) else beside
