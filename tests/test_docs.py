"""Every fenced block of every Markdown file runs, or says why it does not (`snippets.py` tells how)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import ROOT, files
from tests.snippets import run_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", files("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_snippets(path: Path, folder: Path, record_property: Callable[[str, object], None]) -> None:
    for not_run in run_file(path, folder):
        record_property("not run", not_run)


GOOD = """
<!-- setup: echo 'NAME = "Ada"' > who.py -->
<!-- file: sub/greeting.txt -->
```
Hello
```
- in a list:
  ```python
  import asyncio, who
  await asyncio.sleep(0)
  print(f"{open('sub/greeting.txt').read().strip()}, {who.NAME}")
  ```
<!-- output -->
```text
Hello, ...
```
<!-- exits: 3 -->
```console
$ sleep 1000 & cd sub
$ cat \\
> greeting.txt
Hello
$ seq 9
1
...
9
$ exit_code=3; (exit $exit_code)
```
<!-- not run: it needs a network -->
```sh
curl example.com
```
"""


def test_the_directives(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "good.md").write_text(GOOD)
    assert list(run_file(tmp_path / "good.md", folder)) == ["good.md:30: it needs a network"]


@pytest.mark.parametrize(
    ("markdown", "complaint"),
    [
        ("```rust\n```", "'rust' neither runs"),
        ("```\nls\n```", "'' neither runs"),
        ("```python\n\n1 / 0\n```", r'File "bad.md", line 3'),
        ("```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```", "bad.md:5: shows\n2"),
        ("```console\n$ echo one\ntwo\n```", "but prints\none"),
        ("```console\n$ false\n$ true\n```", "exit codes"),
        ("```console\nls\n```", "starts with"),
        ("<!-- setup: false -->", "setup"),
        ("<!-- not run: -->\n```sh\n```", "needs a reason"),
        ("<!-- output -->\nText\n```text\n```", "stands above no block"),
        ("```python\nprint(1)\n", "not closed"),
    ],
)
def test_what_does_not_hold_is_named(markdown: str, complaint: str, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "bad.md").write_text(markdown)
    with pytest.raises((AssertionError, ValueError), match=complaint):
        list(run_file(tmp_path / "bad.md", folder))
