"""`loop pack`, `loop sign` and `loop push` with the store alone between them: what is about a package goes with it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from loop_kit.cli import main
from loop_kit.manifest import Manifest
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.layout import Layout
from loop_kit.oci.model import Descriptor
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.pack.config import SBOM
from loop_kit.store import Store
from loop_kit.trust.bundle import MEDIA_TYPE
from tests.pack.workspaces import written

TOML = """
[components.app]
path = "app.wasm"
pack = { version = "1.2.0" }
"""


class Here:
    """A workspace with a component, a key `acme`, and `loop` in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.manifest: Manifest = written(folder / "ws", {"loop.toml": TOML})

    def loop(self, *args: str, code: int = 0) -> tuple[str, str]:
        self._capsys.readouterr()
        got = main(args)
        out, err = self._capsys.readouterr()
        assert got == code, err
        return out, err

    def json(self, *args: str) -> Any:
        return json.loads(self.loop(*args, "--json")[0])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    for name, folder in (("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "state"), ("LOOP_KEYS", "keys")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("LOOP_KEY_PASSPHRASE", raising=False)
    made = Here(tmp_path, capsys)
    monkeypatch.chdir(made.manifest.folder)
    made.loop("key", "new", "acme")
    return made


@pytest.fixture(params=["docker_registry", "crane_registry", "loop_registry"])
def registry(request: pytest.FixtureRequest) -> str:
    host: str = request.getfixturevalue(request.param)
    return host


async def kinds(reference: str) -> list[str]:
    """What refers to an artifact of a registry."""
    where = Reference.parse(reference)
    async with Registry(where.registry) as opened:
        root = await opened.resolve(where)
        return sorted(
            str(each.artifact_type) for each in await opened.referrers(where.repository, root.digest)
        )


def trusting(here: Here, reference: str) -> Path:
    """A workspace elsewhere, with a store of its own, that takes what acme has signed."""
    line = here.json("key", "show", "acme")["key"]
    there = here.folder / "there"
    there.mkdir()
    (there / "loop.toml").write_text(
        f'[components.app]\npath = "oci:{reference}"\n[trust.signers]\nacme = "{line}"\n'
        f'[[trust.rules]]\nartifacts = ["{reference.rpartition(":")[0]}"]\nsigners = ["acme"]\n'
    )
    return there


def test_signed_in_the_store_and_pushed(
    here: Here, registry: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"{registry}/acme/store-signed"
    packed = here.json("pack", "app")[0]["digest"]
    signed = here.json("sign", "app", "--key", "acme", "--name", name)
    assert (signed["digest"], signed["version"]) == (packed, "1.2.0")
    said = here.json("push", "app", name)
    assert (said["digest"], said["reference"]) == (packed, f"{name}:1.2.0")
    assert {each["artifact-type"]: each["digest"] for each in said["referrers"]}[MEDIA_TYPE] == signed[
        "signature"
    ]
    there = trusting(here, f"{name}:1.2.0")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    (entry,) = here.json("pull", "-m", str(there))["artifacts"].values()
    assert (entry["digest"], entry["signatures"]) == (packed, [signed["signature"]])
    assert entry["signed-by"].startswith("acme (")
    assert here.json("store", "verify")["damaged"] == []


def test_signed_on_the_way(here: Here, registry: str) -> None:
    name = f"{registry}/acme/way-signed"
    out, _ = here.loop("push", "app", name, "--sign", "acme")
    assert "with a signature" in out
    assert "with its SBOM" in out
    assert asyncio.run(kinds(f"{name}:1.2.0")) == sorted((SBOM, MEDIA_TYPE))
    here.loop("pull", "-m", str(trusting(here, f"{name}:1.2.0")))


def test_signatures_may_stay_here(here: Here, registry: str) -> None:
    name = f"{registry}/acme/left"
    here.loop("pack", "app")
    here.loop("sign", "app", "--key", "acme", "--name", name)
    here.loop("push", "app", name, "--no-signatures")
    assert asyncio.run(kinds(f"{name}:1.2.0")) == [SBOM]
    _, err = here.loop("pull", "-m", str(trusting(here, f"{name}:1.2.0")), code=4)
    assert "has no signature" in err
    here.loop("push", "app", name)  # and may follow
    assert asyncio.run(kinds(f"{name}:1.2.0")) == sorted((SBOM, MEDIA_TYPE))


def test_what_is_about_a_package_stays_as_long_as_that(here: Here) -> None:
    packed = here.json("pack", "app")[0]["digest"]
    signature = here.json("sign", "app", "--key", "acme", "--name", "registry.example/acme/app")["signature"]
    store = Store()
    assert {each.artifact_type for each in store.referrers(packed)} == {SBOM, MEDIA_TYPE}
    here.loop("store", "gc")
    assert signature in {each.digest for each in store.referrers(packed)}
    assert "sha256:" in here.loop("store", "ls")[0]
    # packed anew it is another, whose signature that is not
    (here.manifest.folder / "loop.toml").write_text(TOML.replace("1.2.0", "1.3.0"))
    other = here.json("pack", "app")[0]["digest"]
    assert MEDIA_TYPE not in {each.artifact_type for each in store.referrers(other)}
    here.loop("store", "gc")
    assert store.referrers(packed) == []
    assert signature not in set(Blobs(store.folder))
    assert here.json("store", "verify")["damaged"] == []


def test_packed_anew_into_a_layout_it_has_nothing_of_before(here: Here) -> None:
    place = "oci-layout:../dist:app"
    here.loop("pack", "app", "-o", place)
    here.loop("sign", place, "--key", "acme", "--name", "registry.example/acme/app")
    (here.manifest.folder / "loop.toml").write_text(TOML.replace("1.2.0", "1.3.0"))
    digest = here.json("pack", "app", "-o", place)[0]["digest"]
    layout = Layout(here.folder / "dist")
    assert {each.digest for each in layout.index().manifests} == {
        digest,
        *(each.digest for each in layout.referrers(digest)),
    }
    assert [each.artifact_type for each in layout.referrers(digest)] == [SBOM]


def test_what_is_signed_in_the_store_is_verified_there(here: Here) -> None:
    name = "registry.example/acme/app"
    here.loop("pack", "app")
    assert "has no signature" in here.loop("verify", "app", "--key", "acme", code=4)[0]
    here.loop("sign", "app", "--key", "acme", "--name", name)
    assert f"as {name} 1.2.0" in here.loop("verify", "app", "--key", "acme")[0]
    assert "it was signed as" in here.loop("verify", "app", "--key", "acme", "--name", f"{name}2", code=4)[0]
    store = Store()
    (root,) = (root for root in store.roots() if root.name.startswith("packed:"))
    # by the name that it was pulled by it is judged as that
    found = Descriptor(root.media_type, root.digest, Blobs(store.folder).size(root.digest) or 0)
    for pulled, code in ((f"{name}:1.2.0", 0), (f"{name}:1.3.0", 4), (f"{name}2:1.2.0", 4)):
        store.pin(f"oci:{pulled}", found, root.digests)
        said = here.loop("verify", f"oci:{pulled}", "--key", "acme", code=code)[0]
        assert (code == 4) == ("it was signed as" in said), said
    for digest in root.digests:
        path = Blobs(store.folder).path(digest)
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[:-1] + b"!")
        said = here.loop("verify", "app", "--key", "acme", "--json", code=4)[0]
        assert f"is not {digest}" in json.loads(said)["artifacts"][0]["error"]
        path.write_bytes(data)
    here.loop("verify", "app", "--key", "acme")


def test_what_cannot_be_signed_is_said(here: Here) -> None:
    here.loop("pack", "app")
    for args, code, said in (
        (("sign", "app", "--key", "acme"), 2, "--name REGISTRY/REPOSITORY"),
        (("sign", "nothing", "--key", "acme", "--name", "a.example/b"), 4, "names no artifact"),
        (("push", "app", "a.example/b", "--sign", "nobody"), 4, "nobody"),
        (("push", "app", "a.example/b", "--sign", "acme", "--no-signatures"), 2, "give one of them"),
    ):
        _, err = here.loop(*args, code=code)
        assert said in err
