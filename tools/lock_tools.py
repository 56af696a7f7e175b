#!/usr/bin/env python3
"""Lock the tools that loop-kit itself ships a lock for: `make lock`.

Their versions are those that examples and tests are built with; npm and pip are asked as they are configured here.
"""

import asyncio
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from loop_kit.manifest import loads
from loop_kit.pkg import Asked, Platform
from loop_kit.pkg._fetch import Fetcher
from loop_kit.pkg._lock import changing
from loop_kit.pkg._model import Locked
from loop_kit.pkg._resolver import Resolvers
from loop_kit.pkg._solve import solved
from loop_kit.pkg._store import Store

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "python/loop_kit/pkg/tools.lock"
HEADER = (
    "# Made by `make lock`: the tools that a `build` may name as `{tool:NAME}` in any workspace, for every platform.\n"
    "# It is not to be edited.\n"
)
NPM, PYPI = ("componentize-qjs", "esbuild"), ("componentize-py",)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def wanted() -> list[Asked]:
    """The tools, each at one version."""
    versions = json.loads((ROOT / "package.json").read_text("utf-8"))["devDependencies"]
    found = [Asked.parse(f"npm:{name}@{versions[name]}") for name in NPM]
    pinned = (ROOT / "requirements/dev.in").read_text("utf-8")
    for name in PYPI:
        match = re.search(rf"^{re.escape(name)}(==\S+)$", pinned, re.MULTILINE)
        if match is None:
            sys.exit(f"requirements/dev.in does not pin {name}")
        found.append(Asked.parse(f"pypi:{name}@{match[1]}"))
    return found


async def locked(asked: Asked, resolvers: Resolvers, store: Store, fetcher: Fetcher) -> Locked:
    """A tool as it is for everybody: the same for each version of Python, with the programs of all its files."""
    resolver, name = await resolvers.of(asked)
    # the oldest of this kind, as a lock has the others
    here = replace(Platform.here(), libc="gnu-2.28")
    found = [
        await solved(asked, resolver, name, store, fetcher, replace(here, python=python), print)
        for python in PYTHONS
    ]
    made = replace(found[0], python="")
    if any(replace(one, python="") != made for one in found):
        sys.exit(f"{asked} is not the same for all of Python {', '.join(PYTHONS)}: a lock for each is needed")
    root = made.nodes[0]
    # what its programs are was looked up in the file for this machine; those for others are built of the same
    bins = next(file.bins for file in root.files if file.bins)
    files = tuple(replace(file, bins=bins) for file in root.files)
    needed = (
        replace(node, files=tuple(replace(f, bins=None) for f in node.files)) for node in made.nodes[1:]
    )
    return replace(made, nodes=(replace(root, files=files), *needed))


async def main() -> None:
    """Write the lock anew."""
    store = Store()
    with store.use():
        async with (
            Resolvers(loads("")) as resolvers,
            Fetcher(store.blobs, store.temporary, print) as fetcher,
        ):
            made = [await locked(asked, resolvers, store, fetcher) for asked in wanted()]
    LOCK.unlink(missing_ok=True)
    with changing(LOCK) as packages:
        packages.update({one.asked.alias: one for one in made})
    tables = LOCK.read_text("utf-8").partition("version =")
    LOCK.write_text(HEADER + "".join(tables[1:]), "utf-8")


if __name__ == "__main__":
    asyncio.run(main())
