"""For tests of components and providers."""

from loop_kit.testing._client import Placed, client
from loop_kit.testing._mock import Called, MockProvider

__all__ = ["Called", "MockProvider", "Placed", "client"]
