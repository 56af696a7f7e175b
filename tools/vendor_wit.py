#!/usr/bin/env python3
"""Vendor WASI's WIT packages into wit/deps, or check that nobody changed them.

The files come from the wasmtime-wasi and wasmtime-wasi-http crates, so that what guests compile against is
what the host links. Cargo.lock pins both by checksum and cargo fetches them; this script only copies.

    tools/vendor_wit.py          write wit/deps
    tools/vendor_wit.py --check  exit 1 and name each file that is missing, changed or too many
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPS = ROOT / "wit" / "deps"

# Folder in wit/deps -> the crate, and the folder in it, that hold this release of WASI. The HTTP crate
# carries every package that HTTP needs, which is all of them.
RELEASES = {
    "wasi-0.2": ("wasmtime-wasi-http", "wit/deps"),
    "wasi-0.3": ("wasmtime-wasi-http", "src/p3/wit/deps"),
}
LICENSE = ("wasmtime-wasi", "LICENSE")


def crate_folders() -> dict[str, Path]:
    """Where cargo keeps the sources of the crates above, at the versions that Cargo.lock pins."""
    command = ["cargo", "metadata", "--format-version=1", "--locked"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return {p["name"]: Path(p["manifest_path"]).parent for p in metadata["packages"]}


def wanted() -> dict[Path, Path]:
    """Each file that belongs in wit/deps -> the file it is a copy of."""
    crates = crate_folders()
    files = {Path("LICENSE"): crates[LICENSE[0]] / LICENSE[1]}
    for release, (crate, folder) in RELEASES.items():
        for source in sorted((crates[crate] / folder).glob("*.wit")):
            files[Path(release, source.name)] = source
    return files


def drift(files: dict[Path, Path]) -> list[str]:
    """One line for each difference between wit/deps and the crates."""
    ours = {p.relative_to(DEPS) for p in DEPS.rglob("*") if p.is_file()} - {Path("README.md")}
    lines = [f"missing: {path}" for path in sorted(files.keys() - ours)]
    lines += [f"too many: {path}" for path in sorted(ours - files.keys())]
    lines += [
        f"changed: {path}"
        for path in sorted(ours & files.keys())
        if (DEPS / path).read_bytes() != files[path].read_bytes()
    ]
    return lines


def main() -> int:
    """Run as the command line asks; the return value is the exit code."""
    parser = argparse.ArgumentParser(description="Vendor WASI's WIT packages into wit/deps.")
    parser.add_argument("--check", action="store_true", help="only compare")
    args = parser.parse_args()
    files = wanted()
    if args.check:
        lines = drift(files)
        for line in lines:
            print(f"wit/deps: {line}", file=sys.stderr)
        return 1 if lines else 0
    for release in RELEASES:
        shutil.rmtree(DEPS / release, ignore_errors=True)
    for path, source in files.items():
        target = DEPS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    print(f"wit/deps: {len(files)} files")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
