"""How many things a component may have the host hold."""

from __future__ import annotations

from typing import Any

from loop_kit.capabilities import _settings

__all__ = ["Held", "Quota"]


class Quota:
    """At most so many things of one kind at once.

    Args:
        what: The kind, for the error.
        key: The key of the grant that says how many: `timers.max`.
        most: How many.
    """

    def __init__(self, what: str, key: str, most: int) -> None:
        self._what, self._key, self._most = what, key, most
        self.held = 0

    @classmethod
    def of(cls, what: str, key: str, grant: Any, default: int) -> Quota:
        """That of a grant's key that has one number, `max`.

        Raises:
            ValueError: A key is not known, or its value does not do.
        """
        given = _settings.table(f"grant.{key}", grant, ("max",))
        return cls(what, f"{key}.max", _settings.positive(f"grant.{key}.max", given.get("max"), default))

    def take(self) -> Held:
        """One of them.

        Raises:
            ValueError: It would be one too many.
        """
        if self.held >= self._most:
            raise ValueError(f"a {self._what} too many: `{self._key}` of the grant is {self._most}")
        return Held(self)


class Held:
    """One of them, for as long as it lives."""

    __slots__ = ("_quota",)

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        quota.held += 1

    def __del__(self) -> None:
        self._quota.held -= 1
