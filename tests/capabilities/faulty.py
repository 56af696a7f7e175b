"""A provider that does not do what its capability promises."""

from loop_kit.capabilities.core import Core


class Constant(Core):
    """Whose random numbers are none."""

    def u64(self) -> int:
        return 4
