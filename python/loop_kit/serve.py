"""`python -m loop_kit.serve MODULE:CLASS --on ADDRESS`: serves a provider."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys

from loop_kit import errors, provider

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 after an orderly end, 1 where it cannot be served, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loop_kit.serve",
        description="Serve a provider to other processes.",
        epilog="Example: python -m loop_kit.serve store:Store --on unix:/tmp/kv.sock",
    )
    parser.add_argument("target", metavar="MODULE:CLASS", help="the class, or an object, that provides")
    parser.add_argument(
        "--on", metavar="ADDRESS", help="stdio:, unix:PATH or tcp://HOST:PORT (default: stdio:)"
    )
    parser.add_argument(
        "--wit", metavar="PATH", help="file or folder with the WIT, instead of the declared one"
    )
    parser.add_argument(
        "--interface", metavar="NAME", action="append", help="interface to serve, instead of those declared"
    )
    given = parser.parse_args(arguments)
    module, colon, name = given.target.partition(":")
    if not colon or not name:
        parser.error(f"expected MODULE:CLASS, got {given.target!r}")
    token = os.environ.get("LOOP_PROVIDER_TOKEN")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        served = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        sys.stderr.write(f"error: {given.target}: {error}\n")
        return 1
    try:
        asyncio.run(provider.run(served, on=given.on, wit=given.wit, interfaces=given.interface, token=token))
    except (errors.LoopError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
