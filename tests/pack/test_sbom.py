"""The list of what others have made: from the locks, the same each time, nothing twice."""

import json
from pathlib import Path

import pytest

from loop_kit.errors import PackageError
from loop_kit.manifest import Pack
from loop_kit.pack import sbom
from loop_kit.pack._facts import facts_of
from loop_kit.pack.sbom import Item
from tests.pack.workspaces import wheel

LOCK = """
version = 4

[[package]]
name = "mine"
version = "0.1.0"

[[package]]
name = "bytes"
version = "1.10.1"
source = "registry+https://example.com/index"
checksum = "d71b6127be86fdcfddb610f7182ac57211d4b18a3e9c82eb2d17662f2227ad6a"

[[package]]
name = "fork"
version = "2.0.0+build"
source = "git+https://example.com/fork#abc"
"""


def test_what_is_listed_is_listed_once_and_in_order() -> None:
    found = [
        Item("pkg:npm/b@1", "b", "1"),
        Item("pkg:npm/a@2", "a", "2", "SHA-256", "00", "MIT"),
        Item("pkg:npm/b@1", "b", "1", "SHA-256", "11"),
    ]
    data = sbom.document("kv", "1.0.0", "MIT OR Apache-2.0", found)
    assert data == sbom.document("kv", "1.0.0", "MIT OR Apache-2.0", reversed(found))
    said = json.loads(data)
    assert (said["bomFormat"], said["specVersion"]) == ("CycloneDX", "1.6")
    refs = [each["bom-ref"] for each in said["components"]]
    assert refs == ["pkg:npm/a@2", "pkg:npm/b@1"]
    assert said["dependencies"] == [{"ref": "package", "dependsOn": refs}]
    assert said["components"][0]["licenses"] == [{"expression": "MIT"}]
    assert [(item.name, item.version) for item in sbom.items(data)] == [("a", "2"), ("b", "1")]


def test_cargo(tmp_path: Path) -> None:
    lock = tmp_path / "Cargo.lock"
    lock.write_text(LOCK)
    assert sbom.of_cargo(lock) == [
        Item(
            "pkg:cargo/bytes@1.10.1", "bytes", "1.10.1", "SHA-256",
            "d71b6127be86fdcfddb610f7182ac57211d4b18a3e9c82eb2d17662f2227ad6a",
        ),
        Item("pkg:cargo/fork@2.0.0%2Bbuild", "fork", "2.0.0+build"),
    ]  # fmt: skip
    lock.write_text("package = 3")
    with pytest.raises(PackageError, match=r"Cargo\.lock cannot be read"):
        sbom.of_cargo(lock)


def test_npm() -> None:
    packages = {
        "": {"name": "mine"},
        "node_modules/@acme/a": {"version": "1.0.0", "integrity": "sha512-AAEC sha1-x", "license": "ISC"},
        "node_modules/b/node_modules/c": {
            "version": "2.0.0",
            "license": "SEE LICENSE IN x",
            "integrity": "?",
        },
        "node_modules/left-out": {"version": "9.0.0"},
    }
    there = ["node_modules/@acme/a", "node_modules/b/node_modules/c"]
    assert sbom.of_npm({"packages": packages}, there) == [
        Item("pkg:npm/%40acme/a@1.0.0", "@acme/a", "1.0.0", "SHA-512", "000102", "ISC"),
        Item("pkg:npm/c@2.0.0", "c", "2.0.0"),
    ]


def test_wheels(tmp_path: Path) -> None:
    wheel(tmp_path, "Acme_Pair", {"acme.py": ""})
    found = sbom.of_wheel(tmp_path / "Acme_Pair-1.0-py3-none-any.whl", "00")
    assert found == Item("pkg:pypi/acme-pair@1.0", "Acme_Pair", "1.0", "SHA-256", "00", "MIT")
    (tmp_path / "none.whl").write_bytes(b"no zip")
    with pytest.raises(PackageError, match=r"none\.whl is no wheel"):
        sbom.of_wheel(tmp_path / "none.whl", "00")


def test_what_go_has_not_built_has_no_modules(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"x")
    assert sbom.of_go(tmp_path / "program") == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "package.json",
            '{"version": "1.0.0", "license": "MIT", "repository": {"url": "https://e/a"}}',
            "https://e/a",
        ),
        (
            "pyproject.toml",
            '[project]\nversion = "1.0.0"\nlicense = "MIT"\nurls.Source = "https://e/b"\n',
            "https://e/b",
        ),
        (
            "Cargo.toml",
            '[package]\nversion = "1.0.0"\nlicense = "MIT"\nrepository = "https://e/c"\n',
            "https://e/c",
        ),
    ],
)
def test_a_projects_own_file_says_what_the_manifest_does_not(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    inner = tmp_path / "ws/a/b"
    inner.mkdir(parents=True)
    (tmp_path / "ws" / name).write_text(text)
    found = facts_of(Pack(description="Its own"), inner, tmp_path / "ws")
    assert (found.version, found.license, found.description, found.source) == (
        "1.0.0",
        "MIT",
        "Its own",
        said,
    )
    assert facts_of(Pack(version="2.0.0", license="ISC"), inner, tmp_path / "ws").license == "ISC"
    # what lies above the workspace is not its own
    assert facts_of(Pack(), inner, inner).version is None
    (tmp_path / "ws" / name).write_text("{")
    with pytest.raises(PackageError, match="cannot be read"):
        facts_of(Pack(), inner, tmp_path / "ws")
