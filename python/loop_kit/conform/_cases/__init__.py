"""All cases, in the order in which they run."""

from loop_kit.conform._cases import values, channels, resources, calls, links  # noqa: F401, I001 - the order is meant
