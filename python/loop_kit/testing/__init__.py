"""Tools for tests of components and providers."""

from loop_kit.testing._mock import Called, MockProvider

__all__ = ["Called", "MockProvider"]
