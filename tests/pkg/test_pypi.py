"""Packages of Python: versions that fit together, what is told of them apart, and what is source."""

from __future__ import annotations

from typing import Any

import pytest

from loop_kit.errors import Damaged, PackageError
from loop_kit.pkg import Platform, _resolver, _solve
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server
from tests.pkg.test_sources import said

HERE = Platform.here()


async def locked(workspace: Workspace, name: str = "tool") -> dict[str, str]:
    """What is locked, by name."""
    async with workspace.packages() as packages:
        nodes = (await packages.lock())[name].nodes
    return {node.name: node.version for node in nodes}


async def test_an_older_version_where_the_newest_do_not_fit(server: Server, workspace: Workspace) -> None:
    """Only tool 2.0 with the older of what it needs fits: the newest of each of the two wants another `deep`."""
    server.wheel("deep", "1.0")
    server.wheel("deep", "2.0")
    server.wheel("left", "1.0", "deep <2")
    server.wheel("left", "1.1", "deep >=2")
    server.wheel("right", "1.0", "deep <2")
    server.wheel("tool", "2.0", "left", "right")
    workspace.wants('tool = "pypi:tool"')
    assert await locked(workspace) == {"tool": "2.0", "left": "1.0", "right": "1.0", "deep": "1.0"}
    assert said((await workspace.install())["tool"]) == "tool 2.0"


async def test_old_versions_are_not_looked_at_where_the_newest_does(
    server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        server.wheel("tool", f"1.{number}")
    looked: set[str] = set()
    asks = _resolver.artifact

    async def counted(resolver: Any, name: str, version: str, platform: Platform) -> Any:
        looked.add(version)
        return await asks(resolver, name, version, platform)

    monkeypatch.setattr(_solve, "artifact", counted)
    workspace.wants('tool = "pypi:tool"')
    assert await locked(workspace) == {"tool": "1.29"}
    assert looked == {"1.29"}


async def test_an_older_version_of_the_package_itself(server: Server, workspace: Workspace) -> None:
    server.wheel("deep", "1.0")
    server.wheel("mid", "1.0", "deep <2")
    server.wheel("tool", "1.0", "mid")
    server.wheel("tool", "2.0", "mid", "deep >=2")
    workspace.wants('tool = "pypi:tool"')
    assert await locked(workspace) == {"tool": "1.0", "mid": "1.0", "deep": "1.0"}


async def test_nothing_fits_and_it_is_said_who_wants_what(server: Server, workspace: Workspace) -> None:
    server.wheel("deep", "1.0")
    server.wheel("deep", "2.0")
    server.wheel("mid", "1.0", "deep <2")
    server.wheel("tool", "1.0", "mid", "deep >=2")
    workspace.wants('tool = "pypi:tool"')
    with pytest.raises(PackageError, match=r"deep is wanted by mid 1\.0 \(<2\), tool 1\.0 \(>=2\)"):
        await locked(workspace)


async def test_a_version_that_only_one_of_two_means(server: Server, workspace: Workspace) -> None:
    """One to try things out, and one that was withdrawn, are taken where one of those who need it names them."""
    server.wheel("deep", "1.0")
    server.wheel("deep", "1.5", yanked="bad")
    server.wheel("deep", "2.0rc1")
    server.wheel("mid", "1.0", "deep")
    server.wheel("tool", "1.0", "mid", "deep ==1.5")
    server.wheel("next", "1.0", "mid", "deep >=2.0rc1")
    workspace.wants('tool = "pypi:tool"', 'next = "pypi:next"')
    assert (await locked(workspace))["deep"] == "1.5"
    assert (await locked(workspace, "next"))["deep"] == "2.0rc1"


async def test_many_versions_of_which_none_fits_end(server: Server, workspace: Workspace) -> None:
    for number in range(12):
        server.wheel("deep", f"1.{number}")
        server.wheel("left", f"1.{number}", f"deep =={number % 6 * 2}.*")
        server.wheel("right", f"1.{number}", "deep ==99")
    server.wheel("tool", "1.0", "left", "right")
    workspace.wants('tool = "pypi:tool"')
    with pytest.raises(PackageError, match="does not fit together"):
        await locked(workspace)


async def test_what_is_needed_elsewhere_alone(server: Server, workspace: Workspace) -> None:
    """A package for another system is locked for that, and left out here."""
    elsewhere = "win_amd64" if HERE.os != "windows" else "macosx_11_0_arm64"
    name = "win32" if HERE.os != "windows" else "darwin"
    server.wheel("registry", "1.0", tag=f"py3-none-{elsewhere}")
    server.wheel("tool", "1.0", f"registry; sys_platform == '{name}'")
    workspace.wants('tool = "pypi:tool"')
    assert said((await workspace.install())["tool"]) == "tool 1.0"
    node = workspace.packages().locked()["tool"].nodes[1]
    assert (node.name, node.optional, node.file_for(HERE)) == ("registry", True, None)


async def test_metadata_apart_saves_wheels(server: Server, workspace: Workspace) -> None:
    """Versions that are tried and not taken are never fetched."""
    for version in ("1.0", "2.0"):
        server.wheel("deep", version, apart=True)
    server.wheel("mid", "1.0", "deep <2", apart=True)
    server.wheel("mid", "1.1", "deep >=2", apart=True)
    server.wheel("tool", "1.0", "mid", "deep <2", apart=True)
    workspace.wants('tool = "pypi:tool"')
    assert await locked(workspace) == {"tool": "1.0", "mid": "1.0", "deep": "1.0"}
    assert [path for path in server.asked if path.endswith(".whl")] == ["/files/tool-1.0-py3-none-any.whl"]
    assert said((await workspace.install())["tool"]) == "tool 1.0"
    fetched = {path for path in server.asked if path.endswith(".whl")}
    assert fetched == {f"/files/{name}-1.0-py3-none-any.whl" for name in ("tool", "mid", "deep")}


async def test_metadata_that_is_listed_and_not_there(server: Server, workspace: Workspace) -> None:
    server.wheel("deep", "1.0")
    server.wheel("tool", "1.0", "deep", apart=True)
    del server.files["/files/tool-1.0-py3-none-any.whl.metadata"]
    workspace.wants('tool = "pypi:tool"')
    assert await locked(workspace) == {"tool": "1.0", "deep": "1.0"}


async def test_metadata_that_is_not_what_the_index_says(server: Server, workspace: Workspace) -> None:
    server.wheel("tool", "1.0", apart=True)
    server.put("/files/tool-1.0-py3-none-any.whl.metadata", "Name: tool\nRequires-Dist: evil\n\n")
    workspace.wants('tool = "pypi:tool"')
    with pytest.raises(Damaged, match=r"tool-1\.0\.dist-info/METADATA"):
        await locked(workspace)


async def test_extras(server: Server, workspace: Workspace) -> None:
    """Of what is needed, and of the package itself: what they need comes along, in one version of each."""
    for version in ("1.0", "2.0"):
        server.wheel("deep", version, "socks ; extra == 'Proxy_All'", "never ; extra == 'other'")
    server.wheel("socks", "1.0")
    server.wheel("more", "1.0")
    server.wheel("mid", "1.0", "deep <2")
    server.wheel("tool", "1.0", "mid", "deep [proxy-all]", "more ; extra == 'd'")
    workspace.wants('tool = "pypi:tool[d]"')
    assert await locked(workspace) == {
        "tool[d]": "1.0", "tool": "1.0", "mid": "1.0", "deep": "1.0", "deep[proxy-all]": "1.0", "socks": "1.0",
        "more": "1.0",
    }  # fmt: skip
    assert said((await workspace.install())["tool"]) == "tool 1.0"


@pytest.mark.parametrize("range_", ["", "@1.1"])
async def test_what_is_source_alone(range_: str, server: Server, workspace: Workspace) -> None:
    if range_:
        server.wheel("tool", "1.0")
    server.source("tool", "1.1")
    workspace.wants(f'tool = "pypi:tool{range_}"')
    with pytest.raises(
        PackageError, match=r"tool 1\.1 is there as source alone.*pip wheel --no-deps tool==1\.1"
    ):
        await workspace.install()
    assert not any(path.endswith(".tar.gz") for path in server.asked)


async def test_what_is_needed_and_source_alone(server: Server, workspace: Workspace) -> None:
    server.source("deep", "1.0")
    server.wheel("tool", "1.0", "deep")
    workspace.wants('tool = "pypi:tool"')
    with pytest.raises(PackageError, match=r"deep is wanted by tool 1\.0 \(any\).*is there as source alone"):
        await locked(workspace)
