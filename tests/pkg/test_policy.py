"""Packages and `[trust]`: what no signer of the policy has signed is not installed, and what nobody signs is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import oras.client
import pytest

from loop_kit.errors import PackageError, Untrusted
from tests.cli import loop
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server, script, tar
from tests.pkg.test_sources import said

Push = Callable[..., None]


@pytest.fixture
def push(crane_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Push:
    """Pushes a version of a tool, with oras; a key is there to sign it by."""
    monkeypatch.setenv("LOOP_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("acme", "other"):
        assert loop("key", "new", name).returncode == 0

    def pushed(version: str, *, words: str = "hi") -> None:
        packed = tmp_path / "hi.tar.gz"
        packed.write_bytes(tar({"hi": script(f"{words} {version}")}, executable=True))
        monkeypatch.chdir(tmp_path)
        layer = "hi.tar.gz:application/vnd.oci.image.layer.v1.tar+gzip"
        answer = oras.client.OrasClient(insecure=True).push(
            target=f"{crane_registry}/{place(tmp_path)}:{version}", files=[layer]
        )
        assert answer.status_code == 201

    return pushed


def place(folder: Path) -> str:
    """A repository of each test's own."""
    return f"tools/{folder.name.lower().replace('_', '-').strip('-')}"


def sign(host: str, folder: Path, version: str, key: str = "acme") -> None:
    done = loop("sign", f"{host}/{place(folder)}:{version}", "--key", key)
    assert done.returncode == 0, done.stderr


def wanted(workspace: Workspace, host: str, *, more: str = "", policy: str = "") -> None:
    """Has a workspace want the tool, under a policy that names the signer."""
    folder = workspace.folder.parent
    workspace.wants(
        f'hi = "oci:{host}/{place(folder)}@1"',
        more=f"""{more}
[trust]
{policy}

[trust.signers]
acme = {{ file = "{folder}/keys/acme.pub" }}

[[trust.rules]]
artifacts = ["{host}/tools/*"]
signers = ["acme"]
""",
    )


async def test_what_a_signer_has_signed(crane_registry: str, push: Push, workspace: Workspace) -> None:
    push("1.0.0")
    sign(crane_registry, workspace.folder.parent, "1.0.0")
    wanted(workspace, crane_registry)
    assert said((await workspace.install())["hi"]) == "hi 1.0.0"
    assert 'signed = ["acme"]' in (workspace.folder / "loop.lock").read_text()
    shutil.rmtree(workspace.packages().store.folder)
    assert said((await workspace.install(offline=True))["hi"]) == "hi 1.0.0"


@pytest.mark.parametrize("key", [None, "other"])
async def test_what_no_signer_has_signed(
    key: str | None, crane_registry: str, push: Push, workspace: Workspace
) -> None:
    push("1.0.0")
    if key is not None:
        sign(crane_registry, workspace.folder.parent, "1.0.0", key)
    wanted(workspace, crane_registry)
    with pytest.raises(Untrusted) as caught:
        await workspace.install()
    assert caught.value.reason == ("no-signature" if key is None else "unknown-key")
    assert list(workspace.packages().store.blobs) == []


async def test_what_was_locked_before_there_was_a_policy(
    crane_registry: str, push: Push, workspace: Workspace
) -> None:
    """It is not run, nor taken from the store, until its signatures were looked for."""
    push("1.0.0")
    workspace.wants(f'hi = "oci:{crane_registry}/{place(workspace.folder.parent)}@1"')
    assert "hi" in await workspace.install()
    wanted(workspace, crane_registry)
    with pytest.raises(Untrusted, match="as signed by nobody"):
        await workspace.install(offline=True)
    ran = loop("pkg", "run", "hi", cwd=workspace.folder)
    assert ran.returncode == 4
    assert "as signed by nobody" in ran.stderr
    sign(crane_registry, workspace.folder.parent, "1.0.0")
    updated = loop("pkg", "update", "hi", cwd=workspace.folder)
    assert updated.returncode == 0, updated.stderr
    assert loop("pkg", "run", "hi", cwd=workspace.folder).stdout == "hi 1.0.0 \n"


async def test_a_tag_that_was_moved_is_refused(crane_registry: str, push: Push, workspace: Workspace) -> None:
    push("1.0.0")
    sign(crane_registry, workspace.folder.parent, "1.0.0")
    wanted(workspace, crane_registry)
    await workspace.install()
    shutil.rmtree(workspace.folder.parent / "data")
    push("1.0.0", words="evil")
    with pytest.raises(Untrusted, match="has no signature"):
        await workspace.install(locked=True)
    sign(crane_registry, workspace.folder.parent, "1.0.0")
    with pytest.raises(PackageError, match=r"hi\.tar\.gz"):  # it is signed, and is not what is locked
        await workspace.install(locked=True)


async def test_who_has_signed_is_that_of_each_version(
    crane_registry: str, push: Push, workspace: Workspace
) -> None:
    for version, key in (("1.0.0", "acme"), ("2.0.0", "other")):
        push(version)
        sign(crane_registry, workspace.folder.parent, version, key)
    wanted(workspace, crane_registry)
    path = workspace.folder / "loop.toml"
    text, name = path.read_text(), f"oci:{crane_registry}/{place(workspace.folder.parent)}"
    text = text.replace(f'hi = "{name}@1"', f'a = "{name}@1"\nb = "{name}@2"\nc = "{name}@1"')
    other = f'other = {{ file = "{workspace.folder.parent}/keys/other.pub" }}\n'
    text = text.replace("[[trust.rules]]", f"{other}\n[[trust.rules]]")
    path.write_text(text.replace('signers = ["acme"]', 'signers = ["acme", "other"]'))
    async with workspace.packages() as packages:
        locked = await packages.lock()
    assert {alias: one.signed for alias, one in locked.items()} == {
        "a": ("acme",),
        "b": ("other",),
        "c": ("acme",),
    }


async def test_what_nobody_signs_is_said(server: Server, workspace: Workspace, push: Push) -> None:
    server.npm("tool", "1.0.0")
    wanted(workspace, "registry.example")
    text = (workspace.folder / "loop.toml").read_text().splitlines(keepends=True)
    changed = ['tool = "npm:tool"\n' if line.startswith("hi =") else line for line in text]
    (workspace.folder / "loop.toml").write_text("".join(changed))
    await workspace.install()
    assert "signed by nobody, and trusted by their checksums in loop.lock alone: tool" in workspace.told


async def test_what_nobody_signs_is_refused(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    workspace.wants('tool = "npm:tool"')
    await workspace.install()
    workspace.wants('tool = "npm:tool"', more='[trust]\nlocal = "refuse"\n')
    server.asked.clear()
    for offline in (False, True):
        with pytest.raises(
            Untrusted, match=r'packages\.tool \(npm:tool\) comes from no registry.*local = "refuse"'
        ):
            await workspace.install(offline=offline)
    added = loop("pkg", "add", "npm:other", cwd=workspace.folder)
    assert (added.returncode, "packages.other (npm:other) comes from no registry" in added.stderr) == (
        4,
        True,
    )
    assert loop("pkg", "outdated", cwd=workspace.folder).returncode == 4
    assert server.asked == []
