"""Serves the page of a made-up workspace, as a process of its own.

    python -m tests.devserver.serve [--address 127.0.0.1:0] [--more MEMBERS] [--still] [--live]

It prints the URL. Each line of its input is a call of `Scripted`, such as `["line", ["info", "web", "", "hello"]]`, or
one of `["flood", LINES, SECONDS]`, `["fail", MEMBER]`, `["measure", ...]`, `["past"]` and `["nothing"]`. After each it
prints, as JSON, what it was asked for until then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from typing import Any

import loop_kit as loop
from loop_kit import telemetry
from loop_kit.dev import page
from loop_kit.dev._measured import Measured
from tests.devserver.scripted import Scripted, failure


async def flood(workspace: Scripted, lines: int, seconds: int) -> None:
    """So many lines a second."""
    began, told = time.monotonic(), 0
    while told < lines * seconds:
        while told < min(time.monotonic() - began, seconds) * lines:
            told += 1
            workspace.line("info", "storefront", "http", f"GET /items/{told} 200", took=f"{told % 90} ms")
        await asyncio.sleep(0.002)
    workspace.line("info", "storefront", "http", f"flooded with {told}")


def measure(chance: random.Random) -> None:
    """What the components of a shop measure meanwhile."""
    for instrument, name, unit, value, attributes in (
        ("counter", "orders.placed", "{order}", float(chance.randrange(3)), {"currency": "EUR"}),
        ("counter", "mail.bytes", "By", float(chance.randrange(900, 40_000)), {}),
        ("gauge", "cart.open", "{cart}", float(chance.randrange(60, 80)), {}),
        ("histogram", "render.duration", "ms", chance.lognormvariate(1.2, 0.7), {"page": "item"}),
        ("histogram", "search.hits", "{item}", float(chance.randrange(1, 240)), {"index": "terms"}),
    ):
        telemetry.measured(telemetry.Measurement(instrument, name, unit, "", value, attributes))


async def live(workspace: Scripted) -> None:
    """What happens in a shop, without end."""
    chance = random.Random(7)
    number = 0
    while True:
        number += 1
        item = chance.randrange(4000)
        workspace.line(
            "info", "storefront", "http", f"GET /items/{item} 200", took=f"{chance.randrange(4, 60)} ms"
        )
        measure(chance)
        if number % 3 == 0:
            workspace.line(
                "debug", "catalog", "catalog.shelf", f"shelf {item % 40} read from the bucket", hit="true"
            )
        if number % 5 == 0:
            workspace.trace(1000 + number, error="image is truncated" if number % 35 == 0 else "")
        if number % 11 == 0:
            workspace.line("warn", "images", "sharp", f"thumbnail of {item} took 412 ms", limit="250 ms")
        if number % 23 == 0:
            workspace.line(
                "error", "checkout", "pricing", f"quote for {item} failed: deadline of 2 s", retry="1"
            )
        await asyncio.sleep(chance.random() * 0.3)


def past(workspace: Scripted) -> None:
    """What happened before anybody looked."""
    workspace.line("info", "", "loop_kit.host", "workspace shop is ready", members="12", took="412 ms")
    for number in range(1, 25):
        workspace.trace(number, error="image is truncated" if number == 7 else "")
    proposal = '[components.mailer.imports."loop:netx".grant]\nallow = ["https://mail.example.com", "https://api.example.com"]\n'
    for _ in range(3):
        workspace.refusal(
            "mailer", "loop:netx/http-client", "send requests to https://api.example.com", proposal
        )
    proposal = (
        '[components.search.imports."loop:fsx".grant.roots]\nindex = { path = "./index", write = true }\n'
    )
    workspace.refusal("search", "loop:fsx/writing", "write ./index/terms.bin", proposal)


async def commands(workspace: Scripted) -> None:
    loop_ = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop_.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as tasks:
        while line := await reader.readline():
            name, *rest = json.loads(line)
            if name == "flood":
                tasks.create_task(flood(workspace, *rest))
            elif name == "past":
                past(workspace)
            elif name == "measure":
                telemetry.measured(telemetry.Measurement(*rest))
            elif name == "nothing":
                pass
            elif name == "fail":
                workspace.build(rest[0], "failed", **dict(failure()))
            else:
                args: list[Any] = rest[0] if rest else []
                getattr(workspace, name)(*args, **(rest[1] if len(rest) > 1 else {}))
            print(json.dumps(workspace.done), flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:0")
    parser.add_argument("--more", type=int, default=0)
    parser.add_argument("--still", action="store_true", help="nothing happens but what is asked for")
    parser.add_argument("--live", action="store_true", help="things happen by themselves")
    args = parser.parse_args()
    workspace = Scripted(more=args.more, rates=not args.still)
    workspace.counted = Measured()
    workspace.counted.begin()
    if args.live:
        past(workspace)
    async with loop.Host() as host:
        print(await page.serve(host, workspace, args.address), flush=True)
        tasks = [asyncio.ensure_future(commands(workspace))]
        if args.live:
            tasks.append(asyncio.ensure_future(live(workspace)))
        await asyncio.wait(tasks, return_when=asyncio.ALL_COMPLETED)


if __name__ == "__main__":
    asyncio.run(main())
