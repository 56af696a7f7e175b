"""The examples as their readers run them: served, and shown by `loop inspect`, `explain` and `call`."""

import http.client
import json
import re
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.checkout import ROOT, copied
from tests.cli import LOOP, loop, serving

# Of each site: its build, the requests that it gets, and the status and words that they come back with.
SITES = {
    "site": (
        "node build.mjs",
        {
            "GET /": (200, "<title>"),
            "GET /values": (200, 'aria-current="page">'),
            "HEAD /values": (200, ""),
            "GET /search?q=cancellation": (200, 'href="/hosting'),
            "GET /no-such-page": (404, "There is no such page"),
            "GET /..%2f..%2fCargo": (404, "There is no such page"),
            "POST /": (405, "GET and HEAD"),
        },
    ),
    "site-python": (
        "python build.py",
        {
            "GET /": (200, 'href="/values"'),
            "GET /values": (200, "<table>"),
            "HEAD /values": (200, ""),
            "GET /no-such-page": (404, "There is no such page"),
            "GET /..%2f..%2fCargo": (404, "There is no such page"),
            "POST /": (405, "GET, HEAD"),
        },
    ),
}


@pytest.mark.timeout(300)  # the Python one has all of CPython to build in and to compile
@pytest.mark.parametrize("name", SITES)
def test_a_site(name: str, tmp_path: Path) -> None:
    site = copied(name, tmp_path)
    build, requests = SITES[name]

    before = loop("explain", cwd=site)
    assert before.returncode == 4
    assert f"cannot be read: not built yet: {build}" in before.stdout

    with serving([LOOP, "run", f"examples/{name}"], tmp_path) as (url, _):
        for request, (status, words) in requests.items():
            assert words in fetch(url, request, status), request

    shows_what_it_is(site / "build" / "site.wasm", {"loop:fsx/files@0.1.0", "loop:core/log@0.1.0"})
    text = loop("explain", cwd=site).stdout
    assert f'grant      {{ roots = {{ docs = {{ mode = "ro", path = "{tmp_path}/docs" }} }} }}' in text
    explained = loop("explain", "--json", cwd=site)
    assert explained.returncode == 0
    (component,) = json.loads(explained.stdout)["components"]
    linked = {item["name"]: item["provider"] for item in component["imports"] if item["status"] == "linked"}
    log = "log" if name == "site" else "core"
    assert linked == {"loop:fsx/files@0.1.0": "files", "loop:core/log@0.1.0": log}
    assert all(item["answered"] for item in component["imports"])


def test_the_site_is_the_same_while_it_is_developed(tmp_path: Path) -> None:
    """Its code is given to an engine then."""
    site = copied("site", tmp_path)
    _, requests = SITES["site"]
    with serving([LOOP, "dev", "--no-page"], site) as (url, _):
        for request, (status, words) in requests.items():
            assert words in fetch(url, request, status), request
    assert not (site / "build").exists()


# Of each: a source with the beginning of a page, what shows it; and a file that it is not made of.
EDITS = {
    "site": ("src/layout.js", "/values", "README.md"),
    "site-python": ("src/pages.py", "/values", "README.md"),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", EDITS)
def test_an_example_that_is_developed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`loop dev` builds it when a source changes, and only then, and serves on meanwhile."""
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
        (tmp_path / "home").mkdir(exist_ok=True)
    site = copied(name, tmp_path)
    source, target, apart = EDITS[name]
    old, new = '<html lang="en">', '<html lang="en" data-edited>'
    command = [LOOP, "dev", "-m", f"examples/{name}", "--no-page"]
    with serving(command, tmp_path) as (url, server):
        assert server.stdout is not None
        said = iter(server.stdout.readline, "")
        next(line for line in said if line.startswith("watching;"))
        assert new not in fetch(url, f"GET {target}", 200)
        text = (site / source).read_text()
        assert text.count(old) == 1
        (site / apart).write_text("changed\n")
        (site / source).write_text(text.replace(old, new))
        told = []
        for line in said:
            told.append(line)
            if line.startswith("live site"):
                break
        assert new in fetch(url, f"GET {target}", 200), told
        assert sum(line.startswith("building") for line in told) == 1, told


def fetch(url: str, request: str, status: int) -> str:
    """The body of an answer, which must have this status."""
    method, target = request.split()
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        connection.request(method, target)
        answer = connection.getresponse()
        body = answer.read().decode()
    assert answer.status == status, f"{request}: {body}"
    return body


def test_the_plugin() -> None:
    shows_what_it_is(ROOT / "examples" / "plugin.wasm", {"acme:plugin/host"})


def shows_what_it_is(wasm: Path, needs: set[str]) -> None:
    """What can be learnt of a component alone, whose imports but those of WASI are given."""
    found = json.loads(loop("inspect", str(wasm), "--json").stdout)
    assert {item["name"] for item in found["imports"] if not item["name"].startswith("wasi:")} == needs
    exports = {item["name"] for item in found["exports"]}
    assert exports
    text, wit = loop("inspect", str(wasm)).stdout, loop("inspect", str(wasm), "--wit").stdout
    assert f"component, {wasm.stat().st_size:,} bytes" in text
    for name in needs | exports:
        assert f"\n  {name}\n" in text
        assert re.search(rf"^  (import|export) {re.escape(name)}[:;]", wit, re.MULTILINE)
    for arguments in ([], ["--json"], ["handle()"]):
        done = loop("call", str(wasm), *arguments)
        assert (done.returncode, done.stdout) == (4, "")
        assert all(f"  {name}: no provider" in done.stderr for name in needs)
        assert "hint: link them in a loop.toml" in done.stderr
