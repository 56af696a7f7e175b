"""Pages of Markdown as HTML, with what others need to know of them: headings, links, sections."""

from __future__ import annotations

import posixpath
import re
import struct
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from builder.highlight import highlighted
from builder.sources import ROOT, BuildError, Page

__all__ = ["Resolve", "code_block", "inline", "relative", "render"]

Resolve = Callable[[str], "Page | None"]
"""The page of a path from the checkout, if there is one."""

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# Nothing else of HTML stands in the sources.
_TAG = re.compile(r"</?(kbd|br|sub|sup)>")
_SHORT = 16
_NOT_IN_SLUG = re.compile(r"[^\w\- ]")


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    renderer: Any = parser.renderer
    rules = renderer.rules
    rules["fence"] = lambda tokens, at, *_: code_block(tokens[at].content, tokens[at].info.strip())
    rules["code_block"] = lambda tokens, at, *_: code_block(tokens[at].content, "")
    rules["code_inline"] = lambda tokens, at, *_: _code(tokens[at].content)
    rules["table_open"] = lambda *_: '<div class="table"><table>\n'
    rules["table_close"] = lambda *_: "</table></div>\n"
    return parser


def _code(text: str) -> str:
    """What is short stays in one line: browsers would break `-o` behind its dash."""
    kind = ' class="short"' if len(text) <= _SHORT else ""
    return f"<code{kind}>{escape(text, quote=False)}</code>"


_MARKDOWN = _parser()


def code_block(code: str, language: str) -> str:
    """A block of code. It can have the focus, so that keys scroll what is wider than the page."""
    shown = highlighted(code, language)
    named = {"": "Text", "text": "Text", "console": "Commands"}.get(language, language)
    kind = f' data-language="{escape(language)}"' if language not in ("", "text") else ""
    return (
        f'<figure class="code"{kind}><pre tabindex="0" role="region" aria-label="{escape(named)}">'
        f"<code>{shown}\n</code></pre></figure>\n"
    )


def inline(text: str) -> str:
    """A line of Markdown without links as HTML."""
    return str(_MARKDOWN.renderInline(text))


def relative(url: str, page: Page) -> str:
    """A place of the site as a page links to it."""
    return posixpath.relpath(url, posixpath.dirname(page.url) or ".")


def render(page: Page, text: str, resolve: Resolve) -> None:
    """Makes a page of Markdown; its links are checked once all pages are made.

    Raises:
        BuildError: It has HTML that is not known, or links to what is no page.
    """
    tokens = _without_comments(page, _MARKDOWN.parse(text))
    tokens = _without_empty_heads(tokens)
    slugs: dict[str, int] = {}
    words: list[str] = []
    page.words.append(("", "", ""))
    for at, token in enumerate(tokens):
        line = token.map[0] + 1 if token.map else 0
        if (style := token.attrs.pop("style", None)) is not None:
            # of a table's cell; the page's policy takes no style but that of its file
            token.attrs["class"] = str(style).rpartition(":")[2]
        if token.type == "inline":
            _inline(page, token, line, resolve)
        if token.type == "heading_open":
            _close(page, words)
            content = tokens[at + 1]
            _heading(page, token, content, slugs)
        elif token.type == "inline" and tokens[at - 1].type != "heading_open":
            words.append(_text(token))
        elif token.type == "fence":
            words.append(token.content)
    _close(page, words)
    if not page.title:
        raise BuildError(f"{page.source}: it has no heading")
    page.html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})


def _without_comments(page: Page, tokens: Sequence[Token]) -> list[Token]:
    """Comments direct the tests of the docs; readers do not see them."""
    kept = []
    for token in tokens:
        if token.type == "html_block":
            if left := _COMMENT.sub("", token.content).strip():
                raise BuildError(f"{page.source}:{(token.map or [0])[0] + 1}: HTML is not taken: {left[:60]}")
            continue
        for child in token.children or ():
            if child.type == "html_inline" and not _TAG.fullmatch(child.content):
                if not _COMMENT.fullmatch(child.content):
                    raise BuildError(
                        f"{page.source}: HTML is not taken: {child.content}; write `…` around it"
                    )
                child.content = ""
        kept.append(token)
    return kept


def _without_empty_heads(tokens: list[Token]) -> list[Token]:
    """A head without a word is there for Markdown's sake alone."""
    kept: list[Token] = []
    start = 0
    for token in tokens:
        kept.append(token)
        if token.type == "thead_open":
            start = len(kept) - 1
        if token.type == "thead_close" and not any(
            one.content for one in kept[start:] if one.type == "inline"
        ):
            del kept[start:]
    return kept


def _heading(page: Page, token: Token, content: Token, slugs: dict[str, int]) -> None:
    text = _text(content)
    level = int(token.tag[1])
    slug = _NOT_IN_SLUG.sub("", text.lower()).replace(" ", "-")
    count = slugs.get(slug, 0)
    slugs[slug] = count + 1
    slug = f"{slug}-{count}" if count else slug
    token.attrSet("id", slug)
    page.anchors.add(slug)
    if level == 1 and not page.title:
        page.title = text
        return
    shown = _MARKDOWN.renderer.render([content], _MARKDOWN.options, {})
    page.headings.append((level, slug, re.sub(r"</?a[^>]*>", "", shown)))
    page.words.append((slug, text, ""))
    link = Token(
        "html_inline",
        "",
        0,
        content=f' <a class="anchor" href="#{slug}">#<span class="unseen"> link to here</span></a>',
    )
    content.children = [*(content.children or ()), link]


def _close(page: Page, words: list[str]) -> None:
    anchor, heading, _ = page.words[-1]
    page.words[-1] = (anchor, heading, " ".join(" ".join(words).split()))
    words.clear()


def _text(token: Token) -> str:
    return "".join(
        " " if child.type in ("softbreak", "hardbreak") else child.content
        for child in token.children or ()
        if child.type in ("text", "code_inline", "softbreak", "hardbreak")
    )


def _inline(page: Page, token: Token, line: int, resolve: Resolve) -> None:
    for child in token.children or ():
        if child.type == "link_open":
            child.attrs["href"] = _href(page, str(child.attrs["href"]), line, resolve)
        elif child.type == "image":
            source = _beside(page, str(child.attrs["src"]))
            file = ROOT / source
            if not file.is_file() or not source.startswith("docs/"):
                raise BuildError(
                    f"{page.source}:{line}: there is no picture {child.attrs['src']} below docs/"
                )
            width, height = _size(file)
            child.attrs["src"] = relative(source.removeprefix("docs/"), page)
            child.attrs.update({"width": width, "height": height, "loading": "lazy"})


def _beside(page: Page, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page.source), unquote(path)))


def _href(page: Page, href: str, line: int, resolve: Resolve) -> str:
    parts = urlsplit(href)
    if parts.scheme or parts.netloc:
        if parts.scheme not in ("https", "http", "mailto") or not (parts.netloc or parts.path):
            raise BuildError(f"{page.source}:{line}: {href} is no address")
        return href
    target = resolve(_beside(page, parts.path)) if parts.path else page
    if target is None:
        raise BuildError(
            f"{page.source}:{line}: {href} leads to no page of the site; builder/sources.py says what is one"
        )
    page.links.append((line, target.url, parts.fragment))
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return fragment if target is page and fragment else relative(target.url, page) + fragment


def _size(file: Path) -> tuple[int, int]:
    """Width and height of a PNG, which its first chunk has."""
    head = file.read_bytes()[:24]
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        raise BuildError(f"{file.relative_to(ROOT)}: it is no PNG")
    width, height = struct.unpack(">II", head[16:24])
    return width, height
