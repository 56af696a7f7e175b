"""The index of the search: which words stand in which sections.

It is a script, since a page that was opened from a folder may load scripts and may not fetch files.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

from builder.sources import Page

__all__ = ["WORD", "index"]

WORD = re.compile(r"[a-z0-9_]{2,}")
_LEAD = 110
_HEADING, _TITLE = 8, 4
"""What a word counts in a heading, and in the title of the page."""
_MOST, _LEAST = 6, 2
"""What it counts at most in the text of a section, and of one of what has been: changes and decisions."""
_PAST = ("changelog.html", "adr/")


def index(pages: Iterable[Page]) -> str:
    """The script with the index.

    It sets `loopDocs`: of each page its URL and title, of each section the page's number, anchor, heading and first
    words, and of each word its sections. These are a string: a base-36 number each, the difference to the one before,
    and where the word counts more than once, a `.` and how much.
    """
    shown: list[list[str]] = []
    sections: list[list[object]] = []
    words: dict[str, list[tuple[int, int]]] = {}
    for number, page in enumerate(pages):
        shown.append([page.url, page.title])
        most = _LEAST if page.url.startswith(_PAST) else _MOST
        for anchor, heading, text in page.words:
            if not heading and not text:
                continue
            at = len(sections)
            sections.append([number, anchor, heading, _lead(text)])
            counts = Counter({word: min(count, most) for word, count in Counter(_words(text)).items()})
            for word in set(_words(heading)):
                counts[word] += _HEADING
            if not anchor:
                for word in set(_words(page.title)):
                    counts[word] += _HEADING + _TITLE
            for word, count in counts.items():
                words.setdefault(word, []).append((at, count))
    made = {
        "pages": shown,
        "sections": sections,
        "words": {word: _packed(words[word]) for word in sorted(words)},
    }
    return f"globalThis.loopDocs = {json.dumps(made, ensure_ascii=False, separators=(',', ':'))};\n"


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _lead(text: str) -> str:
    if len(text) <= _LEAD:
        return text
    return text[:_LEAD].rsplit(" ", 1)[0] + " …"


def _packed(found: list[tuple[int, int]]) -> str:
    parts, before = [], 0
    for at, count in found:
        parts.append(_base36(at - before) + (f".{count}" if count > 1 else ""))
        before = at
    return " ".join(parts)


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = digits[number % 36]
    while number := number // 36:
        text = digits[number % 36] + text
    return text
