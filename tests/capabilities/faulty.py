"""A provider that does not do what its capability promises."""

from loop_kit.capabilities.core import Core, Token


class Stubborn(Token):
    """Is never cancelled."""

    def child(self) -> Token:
        return Stubborn(self._scope)

    def is_cancelled(self) -> bool:
        return False


class NoTokens(Core):
    """Whose tokens are never cancelled."""

    Token = Stubborn
