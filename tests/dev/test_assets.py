"""Which files pages show, and when they are others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop_kit.dev._assets import Assets, assets_of
from loop_kit.manifest import load

MANIFEST = """\
[components.site]
path = "site.wasm"
run = "serve"
{keys}
imports."loop:fsx".provider = "files"
imports."loop:fsx".grant.roots = {{ a.path = "pages", b = {{ path = "notes", mode = "rw" }} }}
wasi = {{ dirs = [{{ host = "shown", guest = "/shown" }}, {{ host = "kept", guest = "/kept", mode = "rw" }}] }}
[providers.files]
use = "builtin:fsx"
"""


def workspace(folder: Path, keys: str = "") -> Path:
    (folder / "loop.toml").write_text(MANIFEST.format(keys=keys))
    return folder


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("", ["shown", "pages"]),
        ('assets = ["notes/**/*.md", "../elsewhere"]', ["notes", "../elsewhere"]),
        ("assets = []", []),
        ("serve = { live = false }", []),
    ],
)
def test_what_is_shown(tmp_path: Path, keys: str, shown: list[str]) -> None:
    found = assets_of(load(workspace(tmp_path, keys)))
    assert [os.path.relpath(rule.base, tmp_path) for rule in found] == shown


async def test_only_what_holds_something_else_is_told(tmp_path: Path) -> None:
    for name in ("pages/in", "notes"):
        (tmp_path / name).mkdir(parents=True)
    page, note = tmp_path / "pages/in/a.css", tmp_path / "notes/a.md"
    assets = Assets(load(workspace(tmp_path)))
    page.write_text("one")
    note.write_text("one")
    assert await assets.changed([page, note, tmp_path / "pages"]) == [str(page)]
    page.write_text("one")
    assert await assets.changed([page]) == []
    page.write_text("two")
    assert await assets.changed([page]) == [str(page)]
    page.unlink()
    assert await assets.changed([page]) == [str(page)]
    assert await assets.changed([page]) == []
