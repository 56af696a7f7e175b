"""Small workspaces to pack, and what runs what was unpacked."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import loop_kit as loop
from loop_kit import manifest as manifests
from loop_kit.manifest import Manifest, Provider
from loop_kit.pack import Runnable
from loop_kit.workspace import Workspace
from tests.linked_guests import passing
from tests.wit_types import STRING

WIT = """package acme:text;

/// Turns text into other text.
interface filter {
  /// The text, otherwise.
  echo: func(text: string) -> string;
}
"""

PYTHON = """
from acme_pair import twice
from loop_kit.provider import provider


@provider("acme:text/filter", wit="wit")
class Filter:
    def echo(self, text):
        return twice(text)
"""


def written(folder: Path, files: Mapping[str, str | bytes]) -> Manifest:
    """Writes files, a component that calls `acme:text/filter`, and reads the loop.toml among them."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "app.wasm").write_bytes(passing(STRING, "acme:text/filter", "acme:text/api").wasm())
    return manifests.load(folder)


def loop_toml(provider: str) -> str:
    return f"""
[components.app]
path = "app.wasm"
imports."acme:text/filter" = {{ provider = "text" }}

[providers.text]
{provider}
"""


async def called(manifest: Manifest, runnable: Runnable, text: str = "abc", **declared: object) -> str:
    """What the component gets from the provider `text`, run out of its package."""
    own = Provider("text", "oci:registry.example/text", "sidecar", "", **declared)  # type: ignore[arg-type]
    ran = dataclasses.replace(manifest, providers={"text": runnable.provider(own)})
    async with loop.Host() as host, Workspace(host, ran) as workspace:
        app = await workspace.load("app")
        return str(await app.call("echo", text))


def wheel(
    folder: Path, name: str, files: Mapping[str, str], tags: str = "py3-none-any", version: str = "1.0"
) -> str:
    """Writes a wheel; returns a line of requirements for it."""
    out = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    texts = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tags}\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},"
        f"{len(text.encode())}\n"
        for path, text in texts.items()
    )
    with zipfile.ZipFile(out, "w") as packed:
        for path, text in {**texts, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            packed.writestr(zipfile.ZipInfo(path), text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-{version}-{tags}.whl").write_bytes(out.getvalue())
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(out.getvalue()).hexdigest()}\n"
