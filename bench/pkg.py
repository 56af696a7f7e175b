#!/usr/bin/env python3
"""What the scripts that `loop pkg install` writes cost over the programs that they start.

    .venv/bin/python -P bench/pkg.py [--rounds 300]

A program that does nothing is installed from a server on loopback. It is then started by its script and by itself, in
turn. Prints the medians, and the median of the differences, in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tests.pkg.servers import serving, tar

from loop_kit import manifest
from loop_kit.pkg import Packages, Platform
from loop_kit.pkg._install import shims_folder


async def installed(folder: Path, program: bytes) -> tuple[Path, tuple[str, ...]]:
    """The script of a program, and the program."""
    here = Platform.here()
    with serving() as server:
        os.environ["GITHUB_API_URL"] = f"{server.url}/api"
        name = f"nothing-{here.os}-{here.arch}.tar.gz"
        server.release("acme/nothing", "1.0", {name: tar({"nothing": program}, executable=True)})
        (folder / "loop.toml").write_text('[packages]\nnothing = "github:acme/nothing"\n')
        async with Packages(manifest.load(folder)) as packages:
            (found,) = await packages.install()
    return shims_folder(folder) / "nothing", found.command


def started(command: tuple[str, ...]) -> float:
    """Milliseconds until a program has ended."""
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = f"{folder}/data"
        site = Path(folder) / "site"
        site.mkdir()
        script, program = asyncio.run(installed(site, Path("/bin/true").read_bytes()))
        pairs = [(started((str(script),)), started(program)) for _ in range(rounds)]
    said = {
        "by the script": statistics.median(pair[0] for pair in pairs),
        "by itself": statistics.median(pair[1] for pair in pairs),
        "over it": statistics.median(pair[0] - pair[1] for pair in pairs),
    }
    print(json.dumps({name: round(value, 2) for name, value in said.items()}))


if __name__ == "__main__":
    main()
