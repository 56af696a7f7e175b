"""`python -m loop_kit.gateway --on ADDRESS --to ADDRESS`: reaches a provider over a transport that it does not speak.

What listens at `--to`, a unix socket or a TCP port of this machine, is reached at `--on` from then on, over quic,
http2, ws or nats, with TLS where it is asked for. The gateway hands frames on and looks at no value: the session, with
its token, links and credit, is between who connects and the provider.

A sidecar finds the command that starts one, as JSON, in LOOP_PROVIDER_GATEWAY.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys

from loop_kit import _core, errors
from loop_kit._login import WORDS, of_environment
from loop_kit._session import give_hub, take_hub
from loop_kit.manifest.model import Tls
from loop_kit.provider import announce
from loop_kit.serve import add_tls, tls_of

__all__ = ["COMMAND", "main"]

COMMAND = json.dumps([sys.executable, "-P", "-m", "loop_kit.gateway"])
"""Starts a gateway with this interpreter, as LOOP_PROVIDER_GATEWAY has it."""

_LAST_WORDS = 5.0


async def _run(on: str, to: str, token: str | None, tls: Tls | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    hub = take_hub(loop)
    try:
        listener = await asyncio.to_thread(
            _core.Listener.gateway, hub, on, to, token=token, tls=tls, login=of_environment(on)
        )
        announce(listener.address)
        await stop.wait()
        await asyncio.to_thread(listener.stop)
        await asyncio.to_thread(listener.finish, _LAST_WORDS)
    finally:
        give_hub(loop)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 after an orderly end, 1 where it cannot listen, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loop_kit.gateway",
        description="Have a provider reached over a transport that it does not speak.",
        epilog="Example: python -m loop_kit.gateway --on quic://127.0.0.1:7000 --to unix:/run/kv.sock. A NATS "
        f"server is logged in to as the environment says: {WORDS}.",
    )
    parser.add_argument("--on", metavar="ADDRESS", required=True, help="where it is to be reached")
    parser.add_argument(
        "--to", metavar="ADDRESS", required=True, help="where it listens: unix:PATH or tcp://127.0.0.1:PORT"
    )
    add_tls(parser)
    given = parser.parse_args(arguments)
    tls = tls_of(parser, given)
    try:
        asyncio.run(_run(given.on, given.to, os.environ.get("LOOP_PROVIDER_TOKEN"), tls))
    except KeyboardInterrupt:  # before it listened: from then on it is an orderly end
        return 130
    except errors.LoopError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
