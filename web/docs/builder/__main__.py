"""`python -m builder FOLDER`: makes the site there."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

from builder.layout import home, missing, whole
from builder.markdown import render
from builder.search import index
from builder.sources import ROOT, BuildError, Page, pages, sections
from builder.wit import render_index, render_package

_HERE = Path(__file__).resolve().parents[1]


def build(folder: Path) -> int:
    """Makes all pages in a folder; how many there are.

    Raises:
        BuildError: Something in the sources cannot be made, or leads nowhere.
    """
    made = pages()

    def resolve(path: str) -> Page | None:
        near = (path, f"{path}/README.md", f"{path}/wit")
        found = next((made[one] for one in near if one in made), None)
        return made.get(path.rpartition("/")[0]) if found is None and path.endswith(".wit") else found

    packages = []
    for source, page in made.items():
        if source.endswith(".md"):
            render(page, (ROOT / source).read_text("utf-8"), resolve)
        elif source != "wit":
            packages.append((page, render_package(page, resolve)))
    render_index(made["wit"], packages, resolve)
    _check_links(made)

    listed = sections(made)
    version = tomllib.loads((ROOT / "Cargo.toml").read_text("utf-8"))["workspace"]["package"]["version"]
    for page in made.values():
        file = folder / page.url
        file.parent.mkdir(parents=True, exist_ok=True)
        is_home = page.url == "index.html"
        text = home(page, listed, version, *_shown()) if is_home else whole(page, listed, version)
        file.write_text(text, "utf-8")
    (folder / "404.html").write_text(missing(listed, version), "utf-8")
    (folder / "search.js").write_text(index(made.values()), "utf-8")
    for picture in sorted((ROOT / "docs").rglob("*.png")):
        target = folder / picture.relative_to(ROOT / "docs")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)
    for beside in (_HERE / "site.css", _HERE.parent / "devserver/src/icon.svg"):
        shutil.copyfile(beside, folder / beside.name)
    shutil.copyfile(_HERE / "build/script/site.js", folder / "site.js")
    return len(made)


def _check_links(made: dict[str, Page]) -> None:
    by_url = {page.url: page for page in made.values()}
    wrong = [
        f"{page.source}:{line}: {by_url[url].source} has no heading #{anchor}"
        for page in made.values()
        for line, url, anchor in page.links
        if anchor and anchor not in by_url[url].anchors
    ]
    if wrong:
        raise BuildError("\n".join(wrong))


def _shown() -> tuple[str, tuple[str, str]]:
    """What README says of loop-kit first, and its first program with what that prints."""
    text = (ROOT / "README.md").read_text("utf-8")
    lead = text.split("\n\n")[1].replace("\n", " ")
    program = re.search(r"^```python\n(.*?)^```$.*?^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if program is None:
        raise BuildError(
            "README.md: the first page shows its first program and what it prints, and there is none"
        )
    return lead, (program[1], program[2])


def main() -> int:
    """The command line."""
    if len(sys.argv) != 2:
        print("usage: python -m builder FOLDER", file=sys.stderr)
        return 2
    try:
        count = build(Path(sys.argv[1]))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{count} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
