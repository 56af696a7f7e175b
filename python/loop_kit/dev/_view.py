"""`loop:devserver` for a member of the workspace that it tells of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from loop_kit._types import Err
from loop_kit.capabilities._hints import Hints
from loop_kit.errors import NotGranted

if TYPE_CHECKING:
    from loop_kit.dev._devserver import Devserver

__all__ = ["View"]

_ELSE = "a command that runs may not run others"


class View:
    """Shows the workspace, and does what a grant allows; whatever else is asked for is refused.

    Args:
        devserver: What it shows.
        grant: Of `loop:devserver`, as the manifest has it.
        importer: Who looks, for the log.
    """

    def __init__(self, devserver: Devserver, grant: Mapping[str, Any], importer: str) -> None:
        self._of = devserver.visit()
        self._allowed: Collection[str] = grant.get("allow", ())
        self._hints = Hints("loop:devserver", importer)
        self.about = self._of.about
        self.members = self._of.members
        self.links = self._of.links
        self.subscribe = self._of.subscribe
        self.commands = self._of.commands

    async def aclose(self) -> None:
        """Whoever looked is gone."""
        self._of.leave()

    async def restart(self, member: str) -> None:
        """As `Devserver.restart`."""
        self._check("restart")
        await self._of.restart(member)

    async def swap(
        self, member: str, use: str | None, dry_run: bool, drain: int | None
    ) -> list[dict[str, str]]:
        """As `Devserver.swap`."""
        self._check("swap")
        return await self._of.swap(member, use, dry_run, drain)

    async def apply(self, dry_run: bool, drain: int | None) -> list[dict[str, str]]:
        """As `Devserver.apply`."""
        self._check("apply")
        return await self._of.apply(dry_run, drain)

    async def load(self, component: str) -> None:
        """As `Devserver.load`."""
        self._check("load")
        await self._of.load(component)

    async def stop(self) -> None:
        """As `Devserver.stop`.

        Raises:
            NotGranted: It may not; the WIT has no words for that.
        """
        if "stop" not in self._allowed:
            raise NotGranted(self._refused("stop"), "loop:devserver")
        await self._of.stop()

    async def run(self, name: str, args: list[str]) -> NoReturn:
        """Refused: whoever runs commands could do all that they do."""
        raise Err(_ELSE)

    def _check(self, action: str) -> None:
        if action not in self._allowed:
            raise Err(("refused", self._refused(action)))

    def _refused(self, action: str) -> str:
        words = f'`{action}` is not granted; add allow = ["{action}"] to the grant of its link'
        self._hints.say(words)
        return words
