"""What calls of a remote provider cost, for tests whose host is a process of its own: `python -m tests.bench_far JSON`.

The JSON has the fields of `loop_kit.bench.Remote`. What is printed is JSON too: the segments of each call, how many
calls there were, and how many of them were over a budget of 10 ms.
"""

import asyncio
import json
import sys
from pathlib import Path

from loop_kit.bench import WORKLOADS, Place, Remote
from loop_kit.bench._run import placed

SMALL = next(work for work in WORKLOADS if work.name == "echo small")


async def main(text: str) -> None:
    url = json.loads(text).pop("url")
    remote = Remote(url, **{name: Path(path) for name, path in json.loads(text).items() if name != "url"})
    async with placed(Place("remote", "tcp", "python", {"loop:bench": remote.keys()}), budget="10ms") as here:
        segments = await here.divided(SMALL, 0.3)
        calls, over = here.route("echo").spent()
    print(json.dumps({"segments": segments, "calls": calls, "over": over}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
