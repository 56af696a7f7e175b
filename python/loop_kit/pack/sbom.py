"""What is in a package, as CycloneDX has it: read from the locks that it was made by."""

from __future__ import annotations

import base64
import binascii
import email.parser
import json
import re
import subprocess
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from loop_kit.errors import PackageError
from loop_kit.manifest._pack import is_licence
from loop_kit.oci._json import canonical

__all__ = [
    "Item", "Tool", "document", "items", "of_cargo", "of_go", "of_npm", "of_requirements", "of_wheel",
]  # fmt: skip

_MODULE = re.compile(r"^\t(?:dep|=>)\t(\S+)\t(\S+)", re.MULTILINE)
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\#]+)", re.MULTILINE)
_ALGORITHMS = {"sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}


@dataclass(frozen=True)
class Item:
    """One thing that somebody else has made.

    Attributes:
        purl: What it is, as package URL.
        name: Its name.
        version: Its version.
        algorithm: Of the digest: `SHA-256`; "" where there is none.
        digest: Of the file that it came as, in hexadecimal.
        license: An SPDX expression, or None.
    """

    purl: str
    name: str
    version: str
    algorithm: str = ""
    digest: str = ""
    license: str | None = None


class Tool(NamedTuple):
    """A tool that has made something."""

    name: str
    version: str


def document(
    name: str,
    version: str | None,
    licence: str | None,
    found: Iterable[Item],
    *,
    digest: str | None = None,
    tools: Iterable[Tool] = (),
) -> bytes:
    """The document, CycloneDX 1.6, for a package of that name.

    Args:
        name: The package's name.
        version: Its version.
        licence: Its licence.
        found: What others have made in it.
        digest: Its SHA-256 in hexadecimal, where it is one file.
        tools: What has made it.
    """
    about: dict[str, Any] = {"type": "application", "bom-ref": "package", "name": name}
    about |= {"version": version} if version else {}
    about |= {"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {}
    about |= {"licenses": [{"expression": licence}]} if licence else {}
    by = [
        {"type": "application", "name": tool.name} | ({"version": tool.version} if tool.version else {})
        for tool in tools
    ]
    metadata = {"component": about} | ({"tools": {"components": by}} if by else {})
    components = []
    once = {
        item.purl: item
        for item in sorted(found, key=lambda item: (item.purl, item.digest, item.license or ""))
    }
    for item in sorted(once.values(), key=lambda item: (item.name, item.version, item.purl)):
        made: dict[str, Any] = {
            "type": "library",
            "bom-ref": item.purl,
            "name": item.name,
            "version": item.version,
        }
        made["purl"] = item.purl
        made |= {"hashes": [{"alg": item.algorithm, "content": item.digest}]} if item.digest else {}
        made |= {"licenses": [{"expression": item.license}]} if item.license else {}
        components.append(made)
    depends = [{"ref": "package", "dependsOn": [each["bom-ref"] for each in components]}]
    return canonical({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": components,
        "dependencies": depends,
    })  # fmt: skip


def items(data: bytes) -> list[Item]:
    """What a document lists; nothing where it is not one of these."""
    try:
        said = json.loads(data)
        return [
            Item(each.get("purl", ""), each["name"], each.get("version", ""))
            for each in said["components"]
            if isinstance(each, Mapping)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _purl(kind: str, name: str, version: str) -> str:
    return f"pkg:{kind}/{quote(name, safe='/')}@{quote(version, safe='')}"


def of_wheel(wheel: Path, digest: str) -> Item:
    """A wheel; `digest` is its SHA-256 in hexadecimal.

    Raises:
        PackageError: It is none.
    """
    try:
        with zipfile.ZipFile(wheel) as packed:
            name = next(n for n in packed.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            if packed.getinfo(name).file_size > 4 << 20:
                raise ValueError("its METADATA is too long")
            said = email.parser.HeaderParser().parsestr(packed.read(name).decode("utf-8", "replace"))
    except (zipfile.BadZipFile, StopIteration, ValueError, KeyError, NotImplementedError) as e:
        raise PackageError(f"{wheel.name} is no wheel: {str(e) or 'it has no METADATA'}") from None
    title, version = str(said["Name"] or wheel.name.partition("-")[0]), str(said["Version"] or "0")
    licence = said["License-Expression"] or said["License"]
    licence = str(licence).strip() if licence and is_licence(str(licence)) else None
    known = re.sub(r"[-_.]+", "-", title).lower()
    return Item(_purl("pypi", known, version), title, version, "SHA-256", digest, licence)


def of_npm(lock: Mapping[str, Any], there: Iterable[str]) -> list[Item]:
    """The packages that npm has put into folders such as `node_modules/a/node_modules/b`, by its lock."""
    found = []
    for folder in there:
        said = lock.get("packages", {}).get(folder, {})
        name = str(said.get("name") or folder.rpartition("node_modules/")[2])
        version = str(said.get("version", "0"))
        algorithm, _, digest = str(said.get("integrity", "")).partition(" ")[0].partition("-")
        try:
            content = base64.b64decode(digest, validate=True).hex()
        except binascii.Error:
            content = ""
        known = _ALGORITHMS.get(algorithm, "") if content else ""
        licence = said.get("license")
        licence = licence if isinstance(licence, str) and is_licence(licence) else None
        found.append(
            Item(_purl("npm", name, version), name, version, known, content if known else "", licence)
        )
    return found


def of_cargo(lock: Path) -> list[Item]:
    """What a Cargo.lock names and comes from elsewhere: for all targets, and for tests too.

    Raises:
        PackageError: It cannot be read.
    """
    try:
        packages = tomllib.loads(lock.read_text("utf-8")).get("package", [])
        return [
            Item(
                _purl("cargo", each["name"], each["version"]),
                each["name"],
                each["version"],
                "SHA-256" if each.get("checksum") else "",
                each.get("checksum", ""),
            )
            for each in packages
            if each.get("source")
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise PackageError(f"{lock} cannot be read: {e}") from None


def of_requirements(file: Path) -> list[Item]:
    """What a `requirements.txt` names with its version.

    Raises:
        PackageError: It cannot be read.
    """
    try:
        named = _PINNED.findall(file.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise PackageError(f"{file} cannot be read: {e}") from None
    return [
        Item(_purl("pypi", re.sub(r"[-_.]+", "-", name).lower(), version), name, version)
        for name, version in named
    ]


def of_go(program: Path) -> list[Item]:
    """The modules that Go has built into a program, as it says itself; nothing where it was not built by Go."""
    try:
        said = subprocess.run(
            ("go", "version", "-m", str(program)), capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [Item(_purl("golang", name, version), name, version) for name, version in _MODULE.findall(said)]
