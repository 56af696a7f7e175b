"""What is around the text of a page: the same for all, and readable without any script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from builder.markdown import code_block, inline, relative
from builder.sources import Page, Section, listed

__all__ = ["home", "missing", "whole"]

# The site's own files alone, and no form sends anything anywhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'"
)
_ICONS = {
    "menu": '<path d="M4 7h16M4 12h16M4 17h16"/>',
    "search": '<circle cx="11" cy="11" r="6.5"/><path d="m16 16 4.5 4.5"/>',
    "theme": '<circle cx="12" cy="12" r="8"/><path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor"/>',
    "before": '<path d="M14 6l-6 6 6 6"/>',
    "after": '<path d="M10 6l6 6-6 6"/>',
}
_LOGO = (
    '<svg class="logo" viewBox="0 0 32 32" aria-hidden="true">'
    '<path d="M11 22a6 6 0 1 1 0-12c5 0 5 12 10 12a6 6 0 1 0 0-12c-2.2 0-3.4 2.2-4.6 4.6"/></svg>'
)


def _icon(name: str) -> str:
    return f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{_ICONS[name]}</svg>'


def whole(page: Page, sections: Sequence[Section], version: str) -> str:
    """A page of text with what leads on."""
    contents = _contents(page)
    main = f"""<main id="main" tabindex="-1">
<article>
<h1 id="top">{escape(page.title)}</h1>
{_without_title(page.html)}
</article>
{_onward(page, sections)}
</main>
{contents}"""
    return _document(page, f"{page.title} · loop-kit", main, sections, version)


def home(page: Page, sections: Sequence[Section], version: str, lead: str, code: tuple[str, str]) -> str:
    """The first page: what it is, how it looks, and all that can be read."""
    cards = []
    for section in sections:
        rows = "".join(
            f'<li><a href="{relative(one.url, page)}">{escape(one.label or one.title)}</a>'
            f"{f'<p>{inline(_unlinked(one.told))}</p>' if one.told else ''}</li>"
            for one in section.pages
        )
        name = _id(section.title)
        cards.append(
            f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(section.title)}</h2><ul>{rows}</ul></section>'
        )
    program, printed = code
    main = f"""<main id="main" tabindex="-1" class="home">
<div class="hero">
<div>
<h1>Nothing is ambient</h1>
<p class="lead">{inline(lead)}</p>
<p class="buttons">
<a class="button primary" href="quickstart.html">Quickstart</a>
<a class="button" href="hosting.html">Hosting components</a>
</p>
</div>
<div class="sample">{code_block(program, "python")}{code_block(printed, "text")}</div>
</div>
<div class="cards">{"".join(cards)}</div>
</main>"""
    return _document(page, "loop-kit: a capability host for WebAssembly components", main, sections, version)


def missing(sections: Sequence[Section], version: str) -> str:
    """What is shown where there is no page; at whatever address, so its links start at the root."""
    page = Page("404", "404.html")
    main = """<main id="main" tabindex="-1">
<article>
<h1>There is no such page</h1>
<p>It may have another name now. <a href="index.html">All pages</a> are listed on the first one,
and the search knows every heading.</p>
</article>
</main>"""
    made = _document(page, "There is no such page · loop-kit", main, sections, version)
    made = made.replace("base-uri 'none'", "base-uri 'self'")
    return made.replace("<title>", '<base href="/">\n<title>', 1)


def _document(page: Page, title: str, main: str, sections: Sequence[Section], version: str) -> str:
    root = "../" * page.url.count("/")
    told = escape(_plain(page))
    about = f'<meta name="description" content="{told}">\n' if told else ""
    return f"""<!doctype html>
<html lang="en" data-root="{root}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{about}<title>{escape(title)}</title>
<link rel="icon" href="{root}icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{root}site.css">
<script src="{root}site.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to the text</a>
<header class="top">
<a class="brand" href="{root}index.html">{_LOGO}<span>loop-kit</span></a>
<span class="version">{escape(version)}</span>
<span class="space"></span>
<button class="find" hidden aria-label="Search" aria-haspopup="dialog">
{_icon("search")}<span>Search</span><kbd aria-hidden="true">/</kbd>
</button>
<button class="quiet theme" hidden aria-label="Light or dark" title="Light or dark">{_icon("theme")}</button>
</header>
<div class="body">
<nav class="pages" aria-label="Pages">
<details open>
<summary>{_icon("menu")}All pages</summary>
{_navigation(page, sections)}
</details>
</nav>
{main}
</div>
</body>
</html>
"""


def _navigation(page: Page, sections: Sequence[Section]) -> str:
    here = listed(page)
    parts = []
    for section in sections:
        rows = []
        for one in section.pages:
            current = "page" if one is page else "true" if one.source == here else ""
            mark = f' aria-current="{current}"' if current else ""
            rows.append(
                f'<li><a href="{relative(one.url, page)}"{mark}>{escape(one.label or one.title)}</a></li>'
            )
        parts.append(f"<p>{escape(section.title)}</p><ul>{''.join(rows)}</ul>")
    return f'<div class="list">{"".join(parts)}</div>'


def _contents(page: Page) -> str:
    headings = [each for each in page.headings if each[0] in (2, 3)]
    if len(headings) < 2:
        return ""
    rows = "".join(
        f'<li class="level-{level}"><a href="#{slug}">{shown}</a></li>' for level, slug, shown in headings
    )
    return f'<nav class="contents" aria-label="On this page"><p>On this page</p><ul>{rows}</ul></nav>'


def _onward(page: Page, sections: Sequence[Section]) -> str:
    """The pages before and after it in the lists."""
    order = [one for section in sections for one in section.pages]
    if page not in order:
        return ""
    at = order.index(page)
    links = []
    if at > 0:
        links.append(_step(order[at - 1], page, "prev", "before"))
    if at + 1 < len(order):
        links.append(_step(order[at + 1], page, "next", "after"))
    return f'<nav class="onward" aria-label="Next pages">{"".join(links)}</nav>'


def _step(one: Page, page: Page, rel: str, icon: str) -> str:
    text = f"<span>{escape(one.label or one.title)}</span>"
    inner = _icon(icon) + text if rel == "prev" else text + _icon(icon)
    return f'<a rel="{rel}" href="{relative(one.url, page)}">{inner}</a>'


def _without_title(html: str) -> str:
    """The text behind its first heading, which the layout has."""
    return html.partition("</h1>")[2].strip()


def _plain(page: Page) -> str:
    return _unlinked(page.told).replace("`", "")


def _unlinked(text: str) -> str:
    """A line of Markdown without its links, since it is one itself."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def _id(title: str) -> str:
    return title.lower().replace(" ", "-")
