"""Where the checkout is and which files belong to it."""

import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

ROOT = Path(__file__).resolve().parent.parent


def files(*patterns: str) -> list[Path]:
    """Files that are, or on the next `git add` would be, in the repository and match a pattern of git's."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return sorted({path for name in names.split("\0") if name and (path := ROOT / name).is_file()})


def copied(example: str, folder: Path) -> Path:
    """A copy of an example in `folder`, not built yet, which serves at a free port; with what its build looks for."""
    for name in ("docs", "node_modules", "python", "wit"):
        (folder / name).symlink_to(ROOT / name)
    copy = folder / "examples" / example
    copytree(ROOT / "examples" / example, copy, ignore=ignore_patterns("build", ".loop"))
    manifest = copy / "loop.toml"
    manifest.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", manifest.read_text()))
    return copy


if __name__ == "__main__":  # for tests in other languages
    copied(sys.argv[1], Path(sys.argv[2]))
