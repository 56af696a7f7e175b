"""Ranges and conditions, as npm and pip's own library read them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from loop_kit.errors import PackageError
from loop_kit.pkg import Asked
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server

VERSIONS = [
    "0.0.1", "0.0.2", "0.1.0", "0.1.5", "0.2.0", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0", "1.2.0", "1.2.3", "1.2.4",
    "1.10.0", "2.0.0-rc.1", "2.0.0", "2.1.0-next.3", "2.3.4", "3.0.0", "10.20.30",
]  # fmt: skip
RANGES = [
    "^1.2", "^1.2.3", "^0.1", "^0.0.1", "^0", "^0.0", "~1.2", "~1.2.3", "~1", "~0.1.0", "1", "1.2", "1.2.3",
    "=1.2.3", "1.x", "1.2.x", "1.2.*", "x", ">1", ">1.2", ">=1.2", "<1.2", "<=1.2", "<=1.2.3", "<2",
    ">=1 <2", ">1.2.3 <=2.0.0", "1.0.0 - 1.2", "1.0 - 2", "1 || 3", "^1 || ^2", "^1.0.0-alpha",
    "1.0.0-alpha.1", ">=1.0.0-beta <2", "~2.1.0-next.1", "^2.1.0-next.1", "> 1.2 < 3", ">= 2.0.0", "v1.2.3",
    "^v1.2", "<0.0.0", "9", "1.2.3 || >=2 <3", "1.2 - 1.2.3", "*", "^1.2.x", "<=0.1",
]  # fmt: skip


def npms(ranges: list[str]) -> list[str | None]:
    """What npm's own reader chooses."""
    npm = shutil.which("npm")
    assert npm is not None
    package = Path(os.path.realpath(npm)).parents[1]
    code = (
        f"const s = require({json.dumps(str(package / 'node_modules/semver'))});"
        f"const v = {json.dumps(VERSIONS)};"
        f"console.log(JSON.stringify({json.dumps(ranges)}.map((r) => s.maxSatisfying(v, r))))"
    )
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


async def test_ranges_are_npms(server: Server, workspace: Workspace) -> None:
    for version in VERSIONS:
        server.npm("tool", version)
    workspace.wants()
    expected = npms(RANGES)
    found: list[str | None] = []
    async with workspace.packages() as packages:
        for one in RANGES:
            try:
                found.append((await packages.newest(Asked("tool", "npm", "tool", one)))[0])
            except PackageError:
                found.append(None)
    assert dict(zip(RANGES, found, strict=True)) == dict(zip(RANGES, expected, strict=True))


@pytest.mark.parametrize("range_", ["^1..2", ">>1", "1.2.3.4", "one", "^", "1.2.3-"])
async def test_what_is_no_range(range_: str, server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    workspace.wants()
    async with workspace.packages() as packages:
        with pytest.raises(PackageError, match=r"range of versions|no version of tool"):
            await packages.newest(Asked("tool", "npm", "tool", range_))


PYTHONS = [
    "0.9",
    "1.0",
    "1.0.post1",
    "1.1",
    "1.2.0",
    "1.2.1",
    "1.4.2",
    "2.0",
    "2.1.dev1",
    "2.1",
    "3.0rc1",
    "3.0",
]


@pytest.mark.parametrize(
    "range_",
    [">=1,<2", "~=1.2", "~=1.2.0", "==1.*", "!=3.0", "==1.0", "<=1.1", ">1.0", ">=1.0,!=1.4.2,<2", "===2.0",
     "<3", "==2.1.dev1"],
)  # fmt: skip
async def test_ranges_of_python(range_: str, server: Server, workspace: Workspace) -> None:
    for version in PYTHONS:
        server.wheel("tool", version)
    workspace.wants()
    wanted = SpecifierSet(range_)
    expected = max(wanted.filter([Version(version) for version in PYTHONS]))
    async with workspace.packages() as packages:
        fits, _ = await packages.newest(Asked("tool", "pypi", "tool", range_))
    assert Version(fits) == expected


@pytest.mark.parametrize(
    ("range_", "expected"),
    [("1", "1.4.2"), ("1.2", "1.2.1"), ("1.2.0", "1.2.0"), ("^1.2", "1.4.2"), ("~1.2", "1.2.1"), ("", "3.0")],
)  # fmt: skip
async def test_short_ranges_of_python(
    range_: str, expected: str, server: Server, workspace: Workspace
) -> None:
    for version in PYTHONS:
        server.wheel("tool", version)
    workspace.wants()
    async with workspace.packages() as packages:
        assert (await packages.newest(Asked("tool", "pypi", "tool", range_)))[0] == expected


MARKERS = [
    'sys_platform == "linux"', 'sys_platform != "linux"', 'python_version >= "3.8"', 'python_version < "3.10"',
    'python_version < "3.8" or (sys_platform == "linux" and platform_machine != "riscv")', "os_name == 'nt'",
    'platform_system in "Linux Darwin"', 'platform_system not in "Windows"', '"linux" in sys_platform',
    'extra == "test"',
    'implementation_name == "cpython" and python_version > "3"', 'platform_python_implementation == "PyPy"',
    '(python_version == "2.7") or python_full_version >= "3.9.0"', '"3.9" <= python_version', 'python_version ~= "3.7"',
]  # fmt: skip


async def test_conditions_are_pips(server: Server, workspace: Workspace) -> None:
    lines = []
    for number, text in enumerate(MARKERS):
        server.wheel(f"need{number}", "1.0")
        lines.append(f"need{number} ; {text}")
    server.wheel("tool", "1.0", *lines, tag="py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64")
    server.wheel("tool", "1.0", *lines, tag="py3-none-manylinux_2_17_aarch64")
    workspace.wants('tool = "pypi:tool"')
    async with workspace.packages() as packages:
        locked = (await packages.lock())["tool"]
    expected = {
        f"need{number}" for number, text in enumerate(MARKERS) if Marker(text).evaluate({"extra": ""})
    }
    assert {node.name for node in locked.nodes} == expected | {"tool"}
