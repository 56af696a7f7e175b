"""The colours of code: pygments tells what is what, and a class of one letter says it in HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, ClassVar

from pygments.lexer import Lexer, RegexLexer, words
from pygments.lexers import get_lexer_by_name
from pygments.token import Token
from pygments.util import ClassNotFound

__all__ = ["highlighted"]

_CLASSES = (
    (Token.Comment, "c"),
    (Token.Keyword, "k"),
    (Token.Operator.Word, "k"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "n"),
    (Token.Name.Function, "f"),
    (Token.Name.Class, "t"),
    (Token.Name.Builtin, "t"),
    (Token.Name.Decorator, "f"),
    (Token.Name.Tag, "k"),
    (Token.Name.Attribute, "f"),
)


_WORDS = (
    "package interface world import export use as include with func async static constructor record variant enum flags "
    "resource type"
)
_TYPES = (
    "bool s8 s16 s32 s64 u8 u16 u32 u64 f32 f64 char string list option result tuple stream future own borrow"
)


class Wit(RegexLexer):  # type: ignore[misc]
    """WIT, as far as its colours go."""

    name = "WIT"
    tokens: ClassVar = {
        "root": [
            (r"//.*$", Token.Comment),
            (r"/\*(.|\n)*?\*/", Token.Comment),
            (r"@[a-z][a-z-]*(?=\()", Token.Name.Decorator),
            (r"%?[a-zA-Z][\w-]*(?=\s*:\s*((async|static)\s+)*func)", Token.Name.Function),
            (words(_WORDS.split(), prefix=r"(?<![%\w-])", suffix=r"(?![\w-])"), Token.Keyword),
            (words(_TYPES.split(), prefix=r"(?<![%\w-])", suffix=r"(?![\w-])"), Token.Name.Builtin),
            (r"%?[a-zA-Z][\w-]*", Token.Name),
            (r"@?\d[\w.+-]*", Token.Literal.Number),
            (r"\s+|.", Token.Text),
        ]
    }


def highlighted(code: str, language: str) -> str:
    """Code as HTML. What is in no language that is known has no colours."""
    code = code.rstrip("\n")
    if language == "console":
        return "\n".join(_console(code))
    lexer = _lexer(language)
    return escape(code, quote=False) if lexer is None else "".join(_marked(lexer, code))


def _lexer(language: str) -> Lexer | None:
    if language == "wit":
        return Wit()
    if language in ("", "text"):
        return None
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


def _marked(lexer: Any, code: str) -> Iterator[str]:
    for kind, text in lexer.get_tokens(code):
        name = next((name for parent, name in _CLASSES if kind in parent), "")
        safe = escape(text, quote=False)
        yield f'<span class="{name}">{safe}</span>' if name and text.strip() else safe


def _console(code: str) -> Iterator[str]:
    """What is typed stands out from what is answered."""
    lexer = _lexer("bash")
    for line in code.split("\n"):
        prompt, typed = line[:2], line[2:]
        if prompt in ("$ ", "> "):
            shown = "".join(_marked(lexer, typed)).rstrip("\n")
            yield f'<span class="p">{escape(prompt)}</span><span class="i">{shown}</span>'
        else:
            yield f'<span class="o">{escape(line, quote=False)}</span>' if line else ""
