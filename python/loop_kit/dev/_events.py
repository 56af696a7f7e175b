"""What a builder tells of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Begun", "Cancelled", "Done", "Event", "Failed", "Member", "Place"]


class Member(NamedTuple):
    """A part of a workspace that can change: `str` of it is its place in the manifest.

    Attributes:
        kind: What it is: `manifest` is the `loop.toml` itself, `bind` the types of WIT that a member has.
        name: Its name in the manifest; of types their place there, `components.site.bind`.
    """

    kind: Literal["bind", "manifest", "component", "provider"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}s.{self.name}" if self.kind in ("component", "provider") else self.name


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is wrong.

    Attributes:
        file: The file, from the manifest's folder where it is in it.
        line: 1-based.
        column: 1-based, or 0 where it is not known.
        message: What is wrong, in the tool's words.
        excerpt: The lines around it, numbered, with a mark; "" where the file cannot be read.
    """

    file: str
    line: int
    column: int
    message: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """A build, or a `bind`, has begun."""

    member: Member


@dataclass(frozen=True, slots=True)
class Fetching:
    """A build waits for a tool that is fetched.

    Attributes:
        member: Whose build.
        text: How far that is, in words.
    """

    member: Member
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """A member is as its inputs say.

    Attributes:
        member: The member.
        digest: BLAKE3 of what was built, as hex digits; of all its files, where nothing is built.
        milliseconds: How long it took; 0 where there was nothing to do.
        output: What the command wrote, such as warnings.
        fresh: Whether anything was run for it.
    """

    member: Member
    digest: str
    milliseconds: int = 0
    output: str = ""
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """A build failed: what was built before stays.

    Attributes:
        member: The member.
        milliseconds: How long it took.
        reason: Why, in one line: `` `npm run build` exited with 1 ``.
        output: What the command wrote.
        places: What the output says of files and lines, in its order.
    """

    member: Member
    milliseconds: int
    reason: str
    output: str
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A build was ended, since its inputs have changed again; another one follows if one is needed."""

    member: Member


Event = Begun | Fetching | Done | Failed | Cancelled
