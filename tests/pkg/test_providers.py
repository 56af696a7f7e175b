"""Resolvers that are providers of the workspace: one class, in every placement."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from loop_kit.errors import ManifestError, PackageError
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server, script, sha256, tar
from tests.pkg.test_sources import said

PLACES = {"python": "python:acme_tools:Tools", "sidecar": "sidecar:python:acme_tools:Tools"}


def wanted(workspace: Workspace, server: Server, place: str, *, more: str = "", asked: str = "1") -> None:
    """Has a workspace want a tool of the class, which is in its folder."""
    shutil.copy(Path(__file__).with_name("acme_tools.py"), workspace.folder)
    trusted = "trusted = true\n" if place == "python" else ""
    workspace.wants(
        f'hello = "acme:hello@{asked}"',
        more=f"""
[resolvers.acme]
use = "provider:tools"
allow = ["{server.url}"]

[providers.tools]
use = "{PLACES[place]}"
{trusted}config = {{ base = "{server.url}" }}
{more}""",
    )


@pytest.fixture
def published(server: Server) -> Server:
    sums = {}
    for version in ("1.9.0", "1.10.0", "2.0.0"):
        data = tar({"hello": script(f"hello {version}")}, executable=True)
        server.put(f"/hello-{version}.tar.gz", data)
        sums[version] = sha256(data)
    server.put("/hello.json", json.dumps(sums))
    return server


@pytest.mark.parametrize("place", PLACES)
async def test_a_class_in_plain_python(place: str, published: Server, workspace: Workspace) -> None:
    wanted(workspace, published, place)
    assert said((await workspace.install())["hello"], "x") == "hello 1.10.0 x"
    published.files.clear()
    published.asked.clear()
    shutil.rmtree(workspace.packages().store.folder)
    assert said((await workspace.install(offline=True))["hello"]) == "hello 1.10.0"
    assert published.asked == []  # what is locked asks no resolver


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("asked", "words"),
    [("3", "the resolver of acme failed: .*LookupError"), ("1", "acme: there is no hello")],
)
async def test_one_that_says_no(
    place: str, asked: str, words: str, published: Server, workspace: Workspace
) -> None:
    if asked == "1":
        published.files.clear()
    wanted(workspace, published, place, asked=asked)
    with pytest.raises(PackageError, match=words):
        await workspace.install()


async def test_its_files_come_from_servers_that_it_was_granted(
    published: Server, workspace: Workspace
) -> None:
    wanted(workspace, published, "sidecar")
    path = workspace.folder / "loop.toml"
    allowed = f'allow = ["{published.url}"]'
    path.write_text(path.read_text().replace(allowed, 'allow = ["https://tools.example.com"]'))
    with pytest.raises(PackageError, match=r"HTTP-request-denied|destination"):
        await workspace.install()
    assert not any(path.endswith(".tar.gz") for path in published.asked)


async def test_a_provider_that_is_no_resolver(published: Server, workspace: Workspace) -> None:
    wanted(workspace, published, "python")
    (workspace.folder / "none.py").write_text("class Tools:\n    def __init__(self, config, grant): pass\n")
    path = workspace.folder / "loop.toml"
    path.write_text(path.read_text().replace("acme_tools:", "none:"))
    with pytest.raises(PackageError, match="the provider tools is no resolver") as caught:
        await workspace.install()
    assert "loop:pkg/resolver" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('use = "provider:tool"', 'there is no provider "tool"'),
        ('use = "provider:tools"\nconfig = { a = 1 }', "the config of a provider stands in"),
        ('use = "provider:tools"\nbase = "http://a.example"', "goes with"),
        ('use = "provider:"', "is no resolver"),
    ],
)
def test_what_the_manifest_must_not_say(lines: str, words: str, workspace: Workspace) -> None:
    providers = '[providers.tools]\nuse = "sidecar:python:a:B"\n'
    workspace.wants(more=f"[resolvers.acme]\n{lines}\n\n{providers}")
    with pytest.raises(ManifestError, match=words):
        workspace.packages()
