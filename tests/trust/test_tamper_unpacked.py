"""A provider runs from what was unpacked of its package; where there is a policy, that must be what was signed."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from loop_kit import Host
from loop_kit._members import Member
from loop_kit.errors import CallError, Damaged
from loop_kit.lock import read
from loop_kit.manifest import load
from loop_kit.oci.blobs import digest_of
from loop_kit.store import Store
from loop_kit.store._trees import _listed
from loop_kit.store.workspace import pull
from loop_kit.trust import attach, sign
from loop_kit.workspace import Workspace
from tests.store.packed import Place
from tests.store.test_provider import USED, echoed, packed
from tests.trust.made import ACME

NAME = "registry.example/acme/text"
POLICY = f"""
[trust.signers]
acme = "{ACME.public.line}"

[[trust.rules]]
artifacts = ["registry.example/acme/*"]
signers = ["acme"]
"""


@pytest.fixture
def place(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, captured=capfd, patched=monkeypatch)
    packed(tmp_path / "source", made.layout, "1.2")
    root = made.layout.resolve("1.2")
    made.layout.add(None, attach(made.layout.blobs, root, sign(ACME, root, NAME, "1.2.0")))
    (made.folder / "app.wasm").write_bytes((tmp_path / "source" / "app.wasm").read_bytes())
    made.write(USED.replace("REFERENCE", "oci-layout:../dist:1.2") + POLICY)
    return made


def forged(digest: str) -> None:
    """Changes the code of what was unpacked, and all that is noted of it so that it fits."""
    tree = Store().trees.path(digest)
    for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    (code,) = tree.rglob("text.py")
    rights = code.stat().st_mode
    code.chmod(0o644)
    code.write_text(code.read_text().replace("text + text", "'mine now'"))
    code.chmod(rights)
    listing = _listed(tree / "files")
    (tree / "listing").chmod(0o644)
    (tree / "listing").write_bytes(listing)
    (tree / "record.json").chmod(0o644)
    (tree / "record.json").write_text(json.dumps({"digest": digest, "listing": digest_of(listing)}))


def test_what_was_unpacked_and_forged_does_not_run(place: Place) -> None:
    place.loop("pull")
    assert asyncio.run(echoed(place.folder)) == "abcabc"
    digest = read(place.lock).providers["text"].digest
    forged(digest)
    assert Store().verify() == []  # it fits all that lies beside it
    with pytest.raises(Damaged, match=rf"providers.text, .*{digest}.* changed: .*text.py"):
        asyncio.run(echoed(place.folder))
    place.loop("pull")
    assert asyncio.run(echoed(place.folder)) == "abcabc"


async def test_nor_when_it_is_started_again(place: Place) -> None:
    """A provider that has ended is started from what is there then."""
    await pull(load(place.folder))
    async with Host() as host, Workspace(host, load(place.folder)) as workspace:
        app = await workspace.load("app")
        assert await app.call("echo", "abc") == "abcabc"
        failed = asyncio.Event()

        def told(member: Member) -> None:
            if member.name == "text" and "changed" in member.reason:
                failed.set()

        workspace.listen(told)
        forged(read(place.lock).providers["text"].digest)
        (pid,) = [member.pid for member in workspace.members() if member.name == "text"]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(failed.wait(), 60)
        with pytest.raises(CallError):
            await app.call("echo", "abc")
