"""For tests of components and providers."""

from loop_kit.testing._client import Placed, client
from loop_kit.testing._clock import VirtualClock, virtual_clock
from loop_kit.testing._collect import Collected, collect
from loop_kit.testing._mock import Called, MockProvider

__all__ = [
    "Called",
    "Collected",
    "MockProvider",
    "Placed",
    "VirtualClock",
    "client",
    "collect",
    "virtual_clock",
]
