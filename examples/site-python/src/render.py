"""Markdown to HTML, by mistune: raw HTML is shown as text, and links may point to no script."""

import posixpath
import re
from collections.abc import Set
from typing import Any
from urllib.parse import quote, unquote

import mistune

# Given their names, mistune would import them when first used; but a component has no files to import from.
from mistune.plugins.formatting import strikethrough
from mistune.plugins.table import table
from mistune.plugins.task_lists import task_lists


class Renderer(mistune.HTMLRenderer):
    """HTML with ids on the headings, and with the site's own addresses in links between pages."""

    def __init__(self, source: str, known: Set[str]) -> None:
        super().__init__(escape=True)
        self.folder = posixpath.dirname(source)
        self.known = known

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """A heading that can be linked to."""
        words = re.sub(r"<[^>]*>|&\w+;", "", text).lower()
        slug = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        return f'<h{level} id="{slug}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link, led to the page if its target is one."""
        path, mark, fragment = url.partition("#")
        target = posixpath.normpath(posixpath.join("/", self.folder, unquote(path))).lstrip("/")
        if target in self.known:
            url = "/" + quote(target.removesuffix(".md")) + mark + fragment
        return super().link(text, url, title)


def render(markdown: str, source: str, known: Set[str]) -> str:
    """The HTML of the page at the path `source`; `known` are the paths of all pages."""
    plugins = [strikethrough, table, task_lists]
    html = mistune.create_markdown(renderer=Renderer(source, known), plugins=plugins)(markdown)
    assert isinstance(html, str)
    return html


def title_of(markdown: str) -> str | None:
    """The first heading of level one, without its markup."""
    before_code = re.split(r"^```", markdown, maxsplit=1, flags=re.MULTILINE)[0]
    match = re.search(r"^# +(.+?) *#*$", before_code, re.MULTILINE)
    return re.sub(r"[`*]", "", match[1]) if match else None
