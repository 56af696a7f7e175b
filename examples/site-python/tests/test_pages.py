"""The pure half of the example: run `pytest examples/site-python`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import pages
from render import render, title_of

FILES = {
    "index.md": "# Home & `more`\n\n[A](guide/a.md#x) [gone](gone.md)\n",
    "guide/a.md": "# A\n\n## Für wider\n\n[up](../index.md)\n\n| a | b |\n| - | - |\n| 1 | `2` |\n",
    ".hidden/x.md": "# Hidden",
}


class Docs:
    def glob(self, pattern: str) -> list[str]:
        assert pattern == "*.md"
        return sorted(FILES)

    def read(self, path: str) -> bytes:
        return FILES[path].encode()


def get(target: str, method: str = "GET") -> pages.Response:
    return pages.respond(method, target, Docs())


def test_list() -> None:
    answer = get("/")
    assert answer.status == 200
    assert '<li><a href="/guide/a">A</a></li>\n<li><a href="/index">Home &amp; more</a></li>' in answer.body
    assert "Hidden" not in answer.body


def test_page_has_ids_tables_and_its_own_links() -> None:
    answer = get("/guide/a?x=1")
    assert answer.status == 200
    assert '<h2 id="für-wider">Für wider</h2>' in answer.body
    assert '<a href="/index">up</a>' in answer.body
    assert "<td><code>2</code></td>" in answer.body
    assert '<a href="/guide/a#x">A</a> <a href="gone.md">gone</a>' in get("/index").body


ELSEWHERE = ["/none", "/../secret", "/%2e%2e/index", "/.hidden/x", "/guide/../index", "//index", "*", ""]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_nothing_else(target: str) -> None:
    assert get(target).status == 404


def test_only_get_and_head() -> None:
    assert get("/", "HEAD").status == 200
    answer = get("/", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_nothing_becomes_a_script() -> None:
    assert "<script" not in get("/%3Cscript%3E").body
    html = render("<script>x</script>\n\na <img src=x onerror=x> b", "a.md", set())
    assert "<script" not in html
    assert "<img" not in html
    html = render('[a](javascript:x) ![a](JavaScript:x) [a](b "\\" onclick=x")', "a.md", set())
    assert "javascript:" not in html.lower()
    assert '" onclick' not in html


def test_title() -> None:
    assert title_of("text\n# The `a` *b* #\n") == "The a b"
    assert title_of("```\n# no\n```\n") is None
