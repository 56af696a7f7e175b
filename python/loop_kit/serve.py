"""`python -m loop_kit.serve MODULE:CLASS --on ADDRESS`: serves a provider."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import traceback
from pathlib import Path

from loop_kit import errors, provider, telemetry
from loop_kit._login import WORDS
from loop_kit._modules import find, find_anew, lies_in
from loop_kit._records import to_host
from loop_kit.manifest.model import Tls
from loop_kit.placements.builtin import Builtin

__all__ = ["add_tls", "main", "tls_of"]


_TLS = {
    "certificate": "this side's certificate, PEM: what is served can be reached by other machines",
    "key": "its private key, PEM",
    "ca": "authorities, PEM: whoever connects must have a certificate of theirs, else the LOOP_PROVIDER_TOKEN",
}


def add_tls(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tls_of`."""
    for name, words in _TLS.items():
        parser.add_argument(f"--tls-{name}", metavar="FILE", type=Path, help=words)


def tls_of(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Tls | None:
    """What to serve with; ends the program where the options do not fit together."""
    if (given.tls_certificate is None) != (given.tls_key is None):
        parser.error("--tls-certificate and --tls-key go together")
    if given.tls_certificate is None:
        if given.tls_ca is not None:
            parser.error("--tls-ca needs --tls-certificate and --tls-key")
        return None
    return Tls(given.tls_ca, given.tls_certificate, given.tls_key)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 after an orderly end, 1 where it cannot be served, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loop_kit.serve",
        description="Serve a provider to other processes.",
        epilog="Example: python -m loop_kit.serve store:Store --on unix:/tmp/kv.sock. SIGHUP, or the host, has the "
        "modules of this folder read again; calls that have begun end in the old code. A NATS server is logged in to "
        f"as the environment says: {WORDS}.",
    )
    parser.add_argument(
        "target",
        metavar="MODULE:CLASS",
        help="the class, or an object, that provides; or builtin:NAME, a native provider that ships with loop-kit",
    )
    parser.add_argument(
        "--on",
        metavar="ADDRESS",
        help="stdio:, unix:PATH, nats://SERVER/SUBJECT, or tcp:, quic:, http2: or ws://HOST:PORT (default: stdio:)",
    )
    parser.add_argument(
        "--wit", metavar="PATH", help="file or folder with the WIT, instead of the declared one"
    )
    parser.add_argument(
        "--interface", metavar="NAME", action="append", help="interface to serve, instead of those declared"
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="serve peers of plain wRPC too, over tcp, unix, quic (these alone) or ws",
    )
    parser.add_argument(
        "--plain-handles",
        action="store_true",
        help="the same, with functions that return resources, which such peers can never drop",
    )
    add_tls(parser)
    given = parser.parse_args(arguments)
    tls = tls_of(parser, given)
    module, colon, name = given.target.partition(":")
    if not colon or not name:
        parser.error(f"expected MODULE:CLASS or builtin:NAME, got {given.target!r}")
    token = os.environ.get("LOOP_PROVIDER_TOKEN")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    to_host()
    try:
        served = Builtin(name) if module == "builtin" else find(module, name)
        run = provider.run(
            served,
            on=given.on,
            wit=given.wit,
            interfaces=given.interface,
            token=token,
            tls=tls,
            plain=given.plain,
            plain_handles=given.plain_handles,
            reload=None if module == "builtin" else lambda: find_anew(module, name, Path.cwd()),
        )
        with telemetry.exporting():
            asyncio.run(run)
    except KeyboardInterrupt:  # before it served: from then on it is an orderly end
        return 130
    except errors.LoopError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except Exception as error:
        # the provider's own code: while it is imported, and while what it serves is made
        if os.environ.get("LOOP_TRACEBACK"):
            traceback.print_exception(error)
        mine = [at for at in traceback.extract_tb(error.__traceback__) if lies_in(at.filename, Path.cwd())]
        place = f" ({mine[-1].filename}:{mine[-1].lineno})" if mine else ""
        sys.stderr.write(f"error: {given.target}: {type(error).__name__}: {error}{place}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
