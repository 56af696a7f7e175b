"""The site of the docs: built by `loop task build`, served by `loop serve`, and every link of it followed."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from tests.checkout import ROOT, files
from tests.cli import LOOP, serving
from tests.site.test_serving_files import ask

pytestmark = pytest.mark.timeout(300)

VOID = {"base", "br", "hr", "img", "input", "link", "meta"}
# What a browser closes by itself, and would close elsewhere than was meant.
NOT_IN_P = {
    "article",
    "div",
    "dl",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "ul",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the site is made of, in a folder of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in files("*.md", "*.wit", "*.toml", "docs", "web"):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


def task(checkout: Path, name: str = "build") -> dict[str, str]:
    """How each task ended."""
    command = ["loop", "task", name, "--json"]
    env = {"LOOP_TASK_CACHE": str(checkout / ".results"), "PATH": f"{Path(LOOP).parent}:{os.environ['PATH']}"}
    home = {"HOME": str(Path.home())}
    done = subprocess.run(
        command, cwd=checkout / "web/docs", env=env | home, capture_output=True, text=True, timeout=200
    )
    document = json.loads(done.stdout)
    return {each["task"]: each["how"] for each in document["tasks"]} | (
        {"said": " ".join(each.get("log", "") for each in document["tasks"])} if done.returncode else {}
    )


@pytest.fixture(scope="module")
def address(checkout: Path) -> Iterator[str]:
    assert task(checkout) == {"docs:script": "ran", "docs:build": "ran"}
    with serving([LOOP, "serve", "web/docs/build/site", "--addr", "127.0.0.1:0"], checkout) as (url, _):
        yield urlsplit(url).netloc


class Read(HTMLParser):
    """A page: what it links to, what can be linked to, and what is wrong with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.wrong: list[str] = []
        self.headings: list[int] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"{tag} is not closed" for tag in self._open]
        self.wrong += [f"two are called {name}" for name in {*self.ids} if self.ids.count(name) > 1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if len(known) < len(attrs):
            self.wrong.append(f"{tag} says something twice")
        if tag in NOT_IN_P and "p" in self._open:
            self.wrong.append(f"{tag} in p")
        if tag == "a" and "a" in self._open:
            self.wrong.append("a link in a link")
        if tag == "img" and not known.get("alt"):
            self.wrong.append(f"a picture without words: {known['src']}")
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if name := known.get("id"):
            self.ids.append(name)
        self.links += [value for key in ("href", "src") if (value := known.get(key)) is not None]
        if "style" in known or any(key.startswith("on") for key in known):
            self.wrong.append(f"{tag} has style or script in itself, which its policy refuses")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self._open[-1:]}")
        else:
            self._open.pop()


def test_nothing_is_done_twice_and_only_what_has_changed_is_made(checkout: Path, address: str) -> None:
    assert task(checkout) == {"docs:script": "fresh", "docs:build": "fresh"}
    page = checkout / "docs/hosting.md"
    text = page.read_text()
    try:
        page.write_text(text.replace("# Hosting components", "# Hosting them", 1))
        assert task(checkout) == {"docs:script": "fresh", "docs:build": "ran"}
        assert b'<h1 id="top">Hosting them</h1>' in ask(address, "/hosting.html")[2]
    finally:
        page.write_text(text)
    assert task(checkout) == {"docs:script": "fresh", "docs:build": "cached"}
    assert b"Hosting components</h1>" in ask(address, "/hosting.html")[2]


def test_the_page_of_the_dev_server_is_of_its_sources(checkout: Path) -> None:
    assert task(checkout, "page:build") == {"page:script": "ran", "page:live": "ran", "page:build": "ran"}
    for part in ("page", "live"):
        made = {path.name: path.read_bytes() for path in (checkout / "web/devserver/build" / part).iterdir()}
        committed = ROOT / "python/loop_kit/dev" / part / "files"
        assert made == {path.name: path.read_bytes() for path in committed.iterdir()}, "`make page` makes it"


def test_what_is_built_here_is_a_task() -> None:
    done = subprocess.run(
        [LOOP, "task", "--list", "--json"], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    found = {each["id"] for each in json.loads(done.stdout)["tasks"]}
    examples = {f"{path.parent.name}:build" for path in (ROOT / "examples").glob("*/loop.toml")}
    assert found >= examples | {
        "docs:build",
        "page:build",
        "loop-kit:page",
        "loop-kit:components",
        "loop-kit:guests",
    }


def test_every_link_leads_somewhere(address: str, checkout: Path) -> None:
    waiting, pages, outside, wrong = ["/"], {}, set(), []
    links: list[tuple[str, str]] = []
    asked = {"/"}
    while waiting:
        path = waiting.pop()
        status, headers, body = ask(address, path)
        if status != 200:
            wrong.append(
                f"{path}: {status}, from {[page for page, link in links if link.partition('#')[0] == path]}"
            )
            continue
        if not headers["content-type"].startswith("text/html"):
            continue
        pages[path] = page = Read(body.decode())
        wrong += [f"{path}: {what}" for what in page.wrong]
        for link in page.links:
            target = urljoin(path, link)
            if urlsplit(link).scheme:
                outside.add(link)
                continue
            links.append((path, target))
            bare = target.partition("#")[0]
            if bare not in asked:
                asked.add(bare)
                waiting.append(bare)
    for path, target in links:
        bare, _, anchor = target.partition("#")
        if anchor and bare in pages and unquote(anchor) not in pages[bare].ids:
            wrong.append(f"{path}: {target} names nothing there")
    assert wrong == []
    for link in outside:
        assert re.fullmatch(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/[^\s<>\"]*)?", link), link
    for path, page in pages.items():
        assert page.headings[0] == 1
        assert page.headings.count(1) == 1, path
    # all that was made is linked to, and of each page of the docs there is one
    made = {path.relative_to(checkout / "web/docs/build/site").as_posix() for path in
            (checkout / "web/docs/build/site").rglob("*") if path.is_file()}  # fmt: skip
    assert made - {path.removeprefix("/") for path in asked} == {"404.html", "search.js"}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.partition(".")[0] for path in made}
    assert Read(ask(address, "/a/b/c")[2].decode()).wrong == []


def test_the_index_knows_the_headings(address: str) -> None:
    text = ask(address, "/search.js")[2].decode()
    index = json.loads(re.fullmatch(r"globalThis\.loopDocs = (.*);\n", text, re.DOTALL)[1])  # type: ignore[index]
    assert len(text) < 400_000
    number = [url for url, _ in index["pages"]].index("hosting.html")
    found = [
        at
        for at, (page, anchor, *_) in enumerate(index["sections"])
        if (page, anchor) == (number, "cancellation")
    ]
    sections, at = {}, 0
    for part in index["words"]["cancellation"].split():
        step, _, weight = part.partition(".")
        at += int(step, 36)
        sections[at] = int(weight or 1)
    assert sections[found[0]] > sorted(sections.values())[len(sections) // 2], (
        "a heading counts more than the text"
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("# Values", "[gone](nowhere.md)\n\n# Values", "docs/values.md:1: nowhere.md leads to no page of the site"),
        ("# Values", "[gone](hosting.md#no)\n\n# Values", "docs/values.md:1: docs/hosting.md has no heading #no"),
        ("# Values", "![p](no.png)\n\n# Values", "docs/values.md:1: there is no picture no.png"),
        ("# Values", "<script>x</script>\n\n# Values", "docs/values.md:1: HTML is not taken: <script>x</script>"),
        ("# Values", "a list<u8> of\n\n# Values", "HTML is not taken: <u8>"),
        ("# Values", "", "docs/values.md: it has no heading"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_named(checkout: Path, before: str, after: str, said: str) -> None:
    page = checkout / "docs/values.md"
    text = page.read_text()
    assert text.startswith(before)
    try:
        page.write_text(after if not after else text.replace(before, after, 1))
        ended = task(checkout)
    finally:
        page.write_text(text)
    assert ended["docs:build"] == "failed"
    assert said in ended["said"]
    assert "Traceback" not in ended["said"]
