"""What pages show, apart from any host: plain functions, which test_page.py tests in ordinary Python."""

from collections.abc import Callable
from html import escape
from urllib.parse import parse_qs

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; font: 1.1rem/1.6 system-ui, sans-serif }}
  body {{ max-width: 36rem; margin: 20vh auto; padding: 0 1rem }}
  input, button {{ font: inherit; padding: .4rem .8rem }}
</style>
<h1>{title}</h1>
{content}
</html>
"""
FORM = """<form><input name="name" aria-label="Your name" placeholder="Your name"><button>Greet</button></form>"""


def respond(target: str, greet: Callable[[str], str]) -> tuple[int, str]:
    """The status and page of a request for `/?name=Ada`; `greet` is your provider's."""
    path, _, query = target.partition("?")
    if path != "/":
        return 404, page("There is no such page", '<p><a href="/">Home</a></p>')
    name = parse_qs(query).get("name", ["world"])[0]
    return 200, page(greet(name), FORM)


def failure() -> tuple[int, str]:
    """What is shown where something has gone wrong."""
    return 500, page("Something went wrong", "<p>The log says what.</p>")


def page(title: str, content: str) -> str:
    """A whole page."""
    return PAGE.format(title=escape(title), content=content)
