"""What `loop push` has put into a registry, and that then hands out something else: nothing of it is taken."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from loop_kit.cli import main
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.layout import Layout
from loop_kit.oci.media_types import MANIFEST
from loop_kit.oci.model import EMPTY_CONFIG, Descriptor, Manifest, describe
from loop_kit.pack.config import SBOM
from loop_kit.store import Store
from loop_kit.trust import Keyring
from loop_kit.trust.bundle import MEDIA_TYPE
from tests.oci.faulty import Faulty, Request, faulty, on
from tests.pack.test_push import TOML
from tests.pack.workspaces import written
from tests.trust import matrix
from tests.trust import test_tamper as tampered

PULLED = ("manifest", "config", "layer", "signature", "manifest of the signature")
INSPECTED = ("SBOM", "manifest of the SBOM")
KINDS = ("flip", "truncate", "extend", "swap", "remove")


def parts(store: Store, root: str) -> dict[str, str]:
    """The digests of all that a component consists of, and of what is about it."""
    blobs = Blobs(store.folder)

    def document(digest: str) -> dict[str, list[dict[str, str]]]:
        found: dict[str, list[dict[str, str]]] = json.loads(blobs.read(digest))
        return found

    made = {"manifest": root, "layer": document(root)["layers"][0]["digest"]}
    made["config"] = json.loads(blobs.read(root))["config"]["digest"]
    for each in store.referrers(root):
        name = "signature" if each.artifact_type == MEDIA_TYPE else "SBOM"
        made |= {f"manifest of the {name}": each.digest, name: document(each.digest)["layers"][0]["digest"]}
    return made


@dataclass
class Pushed:
    """Two releases that were pushed through a registry that hands on what it should, until it has rules.

    Attributes:
        server: The registry.
        name: The component's name in it.
        blobs: What it has.
        older: The digests of the parts of release 1.1.0.
        newer: Those of 1.2.0.
        toml: A workspace that takes 1.2.0, signed.
    """

    server: Faulty
    name: str
    blobs: Blobs
    older: dict[str, str]
    newer: dict[str, str]
    toml: str

    @property
    def reference(self) -> str:
        return f"{self.name}:1.2.0"


@pytest.fixture(scope="module")
def first(docker_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    folder = tmp_path_factory.mktemp("first")
    with faulty(docker_registry) as server, pytest.MonkeyPatch.context() as patch:
        surrounded(patch, folder)
        name = f"{server.host}/acme/tampered"
        made: list[dict[str, str]] = []
        key = Keyring().new("acme").public
        for version in ("1.1.0", "1.2.0"):
            manifest = written(folder / "ws", {"loop.toml": TOML.replace("1.2.0", version)})
            patch.chdir(manifest.folder)
            assert main(["push", "app", name, "--sign", "acme"]) == 0
            (root,) = (root.digest for root in Store().roots() if root.name == "packed:ws/app")
            made.append(parts(Store(), root))
        toml = (
            f'[components.app]\npath = "oci:{name}:1.2.0"\n[trust.signers]\nacme = "{key.line}"\n'
            f'[[trust.rules]]\nartifacts = ["{name}"]\nsigners = ["acme"]\n'
        )
        older, newer = made
        yield Pushed(server, name, Blobs(Store().folder), older, newer, toml)


@pytest.fixture
def pushed(first: Pushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pushed]:
    surrounded(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.toml").write_text(first.toml)
    yield first
    first.server.rules = []


def surrounded(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "LOOP_KEYS", "DOCKER_CONFIG"):
        patch.setenv(name, str(folder / name))
    patch.delenv("LOOP_KEY_PASSPHRASE", raising=False)


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main(command) == 4
    assert not Path("loop.lock").exists()
    assert Store().verify() == []
    return capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [*PULLED, *INSPECTED])
def test_a_registry_that_hands_out_something_else(
    part: str, kind: str, pushed: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = pushed.newer[part]
    data = pushed.blobs.read(digest)
    other = pushed.older[part] if pushed.older[part] != digest else pushed.newer["SBOM"]
    middle = len(data) // 2
    changed = {
        "flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "truncate": data[:-1],
        "extend": data + b"\n",
        "swap": pushed.blobs.read(other),
    }

    def tampered(request: Request) -> bool:
        if kind == "remove":
            return request.answer(404)
        media_type = MANIFEST if "/manifests/" in request.path else "application/octet-stream"
        return request.answer(200, changed[kind], content_type=media_type)

    names = ("/manifests/1.2.0", digest) if part == "manifest" else (digest,)
    pushed.server.rules = [on("GET", name, tampered) for name in names]
    command = ("inspect", pushed.reference) if part in INSPECTED else ("pull",)
    said = refused(capsys, *command)
    matrix.check(f"the {part}, from a registry", kind, said.replace(pushed.name, "NAME"))
    if kind != "remove":  # what was tampered with is not kept either
        assert digest not in set(Blobs(Store().folder))
    if kind == "flip":
        pushed.server.rules = []
        assert main(command) == 0


@pytest.mark.parametrize("kind", ["swap", "remove"])
def test_a_registry_that_lists_something_else(
    kind: str, pushed: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of signatures that a registry does not tell of, or of those of another release, none counts."""
    newer, older = (made["manifest"].replace(":", "-") for made in (pushed.newer, pushed.older))

    def another(request: Request) -> bool:
        if kind == "remove":
            return request.answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        request.path = request.path.replace(newer, older)
        return request.forward()

    pushed.server.rules = [on(method, f"/manifests/{newer}", another) for method in ("GET", "HEAD")]
    matrix.check(
        "the list of signatures, from a registry", kind, refused(capsys, "pull").replace(pushed.name, "NAME")
    )


def test_an_sbom_that_somebody_else_puts_beside_it(
    pushed: Pushed, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """All digests fit; but the component, and so whoever has signed it, names another."""
    layout = Layout(tmp_path / "dist").create()
    assert main(["copy", pushed.reference, "oci-layout:dist"]) == 0
    root = layout.resolve("1.2.0")
    bill = b'{"components": []}'
    made = Manifest(
        EMPTY_CONFIG, (Descriptor(SBOM, layout.blobs.add(bill), len(bill)),), root, artifact_type=SBOM
    )
    layout.blobs.add(b"{}")
    layout.blobs.add(made.to_bytes())
    layout.add(None, describe(made, made.to_bytes(), artifact_type=SBOM))
    capsys.readouterr()
    assert main(["inspect", "oci-layout:dist:1.2.0"]) == 4
    matrix.check("the SBOM, all digests made to fit", "swap", capsys.readouterr().err)


def test_the_tables_have_nothing_else() -> None:
    cases = {(f"the {part}, from a registry", kind) for part in (*PULLED, *INSPECTED) for kind in KINDS}
    cases |= {("the list of signatures, from a registry", kind) for kind in ("swap", "remove")}
    cases |= {(f"the {part}, in the store", kind) for part in tampered.PARTS for kind in tampered.AT_REST}
    cases |= {
        ("any of these, all digests made to fit", "sign again"),
        ("the SBOM, all digests made to fit", "swap"),
    }
    cases |= {("the signature, all digests made to fit", kind) for kind in tampered.SIGNATURES}
    cases |= {("the lock", kind) for kind in tampered.LOCKS}
    cases |= {("what was unpacked", kind) for kind in (*tampered.AT_REST, "add")}
    assert set(matrix.rows()) == cases
