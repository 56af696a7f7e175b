"""From a request to a response: a list of pages, one of them, or a 404. Nothing here knows of WASI."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from render import render, title_of

SAFETY = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src https: data:",
    "x-content-type-options": "nosniff",
}


class Dir(Protocol):
    """What is needed of a `dir` of loop:fsx."""

    def glob(self, pattern: str) -> Sequence[str]: ...
    def read(self, path: str) -> bytes: ...


@dataclass
class Response:
    """A response apart from any host."""

    status: int
    body: str
    headers: dict[str, str]


def respond(method: str, target: str, docs: Dir) -> Response:
    """Answer a request for `target`, its path and query."""
    if method not in ("GET", "HEAD"):
        only = "GET, HEAD"
        return page(405, "Method not allowed", f"<p>This site only answers {only}.</p>", {"allow": only})
    # An address only selects from what the folder lists, so none can lead out of it.
    known = {url_of(path): path for path in docs.glob("*.md") if "/." not in f"/{path}"}
    path = urlsplit(target).path
    if path == "/":
        return page(200, "Pages", f"<h1>Pages</h1>\n<ul>\n{listing(docs, known)}</ul>")
    if source := known.get(quote(unquote(path))):
        markdown = docs.read(source).decode(errors="replace")
        return page(200, title_of(markdown) or source, render(markdown, source, set(known.values())))
    missing = f"<p>Nothing is published at <code>{escape(unquote(path))}</code>.</p>"
    return page(404, "Not found", f"<h1>There is no such page</h1>\n{missing}")


def failure() -> Response:
    """What to say when an answer could not be made."""
    return page(500, "Error", "<h1>Something went wrong</h1>\n<p>The log says why.</p>")


def url_of(path: str) -> str:
    """The address of a page."""
    return "/" + quote(path.removesuffix(".md"))


def listing(docs: Dir, known: dict[str, str]) -> str:
    """A list item for every page."""
    titles = {url: title_of(docs.read(path).decode(errors="replace")) or path for url, path in known.items()}
    return "".join(f'<li><a href="{url}">{escape(title)}</a></li>\n' for url, title in titles.items())


def page(status: int, title: str, content: str, headers: dict[str, str] | None = None) -> Response:
    """A whole page of HTML around its content."""
    body = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<nav><a href="/">All pages</a></nav>
<main>
{content}
</main>
</html>
"""
    return Response(status, body, {"content-type": "text/html; charset=utf-8", **SAFETY, **(headers or {})})


STYLE = """
:root { color-scheme: light dark; --line: light-dark(#e3e6ec, #2a2f3a); --back: light-dark(#f6f7f9, #1a1d25) }
html { font: 1rem/1.65 ui-sans-serif, system-ui, sans-serif; background: light-dark(#fff, #12141a) }
body { max-width: 46rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; color: light-dark(#1f2430, #e2e5ec) }
a { color: light-dark(#4338ca, #a5b0ff); text-underline-offset: .2em }
h1, h2, h3 { line-height: 1.25; margin: 1.8em 0 .6em }
h1 { margin-top: .8em }
code, pre { font: .875em/1.55 ui-monospace, monospace; background: var(--back); border-radius: 6px }
code { padding: .1em .3em }
pre { padding: 1em 1.2em; overflow-x: auto; border: 1px solid var(--line) }
pre code { padding: 0 }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { border: 1px solid var(--line); padding: .4em .8em; text-align: left; vertical-align: top }
blockquote { border-left: 3px solid var(--line); margin-left: 0; padding-left: 1.2em }
"""
