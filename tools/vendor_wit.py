#!/usr/bin/env python3
"""Vendor WASI's WIT packages, and those of others that run here, or check that nobody changed them.

The files come from crates, so that what guests compile against is what the host links, or what their own SDK has.
Cargo.lock and wit/Cargo.lock pin those by checksum and cargo fetches them; this script only copies.

    tools/vendor_wit.py          write them
    tools/vendor_wit.py --check  exit 1 and name each file that is missing, changed or too many
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What pins the crates: the engine's own, and those that are fetched for their WIT alone.
MANIFESTS = ("Cargo.toml", "wit/Cargo.toml")
WASMTIME_LICENSE = "wasmtime-wasi/LICENSE"


@dataclass(frozen=True)
class Package:
    """A folder of copies.

    Attributes:
        crate: The crate, and the folder in it, that hold the originals.
        license: The crate, and the file in it, that say under which terms.
        files: Which files.
        own: Files beside them that are not copies.
    """

    crate: str
    license: str
    files: str = "*.wit"
    own: tuple[str, ...] = ()


# The HTTP crate carries every package of WASI that HTTP needs, which is all that the engine serves.
PACKAGES = {
    "wit/deps/wasi-0.2": Package("wasmtime-wasi-http/wit/deps", WASMTIME_LICENSE),
    "wit/deps/wasi-0.3": Package("wasmtime-wasi-http/src/p3/wit/deps", WASMTIME_LICENSE),
    "python/loop_kit/capabilities/keyvalue/wit": Package(
        "wasmtime-wasi-keyvalue/wit/deps/keyvalue", WASMTIME_LICENSE
    ),
    "wit/deps/keyvalue-draft2": Package("spin-sdk/wit/deps/keyvalue-2024-10-17", "spin-sdk/LICENSE"),
    # The rest of Spin's package needs WASI's HTTP; its head is repeated in the world beside it.
    "wit/deps/spin-2.0": Package(
        "spin-sdk/wit/deps/spin@2.0.0", "spin-sdk/LICENSE", "key-value.wit", ("world.wit",)
    ),
}


def crate_folders() -> dict[str, Path]:
    """Where cargo keeps the sources of crates, at the versions that are pinned."""
    found: dict[str, Path] = {}
    for manifest in reversed(MANIFESTS):
        command = ["cargo", "metadata", "--format-version=1", "--locked", "--manifest-path", manifest]
        metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
        found |= {p["name"]: Path(p["manifest_path"]).parent for p in metadata["packages"]}
    return found


def wanted() -> dict[Path, Path]:
    """Each file that belongs here, from the root of the repository -> the file that it is a copy of."""
    crates = crate_folders()
    files = {}
    for folder, package in PACKAGES.items():
        crate, _, below = package.crate.partition("/")
        for source in sorted((crates[crate] / below).glob(package.files)):
            files[Path(folder, source.name)] = source
        crate, _, below = package.license.partition("/")
        files[Path(folder, "LICENSE")] = crates[crate] / below
    return files


def drift(files: dict[Path, Path]) -> list[str]:
    """One line for each difference between our files and those of the crates."""
    ours = {path.relative_to(ROOT) for folder in PACKAGES for path in (ROOT / folder).iterdir()}
    ours -= {Path(folder, name) for folder, package in PACKAGES.items() for name in package.own}
    lines = [f"missing: {path}" for path in sorted(files.keys() - ours)]
    lines += [f"too many: {path}" for path in sorted(ours - files.keys())]
    lines += [
        f"changed: {path}"
        for path in sorted(ours & files.keys())
        if (ROOT / path).read_bytes() != files[path].read_bytes()
    ]
    return lines


def main() -> int:
    """Run as the command line asks; the return value is the exit code."""
    parser = argparse.ArgumentParser(description="Vendor the WIT packages of others.")
    parser.add_argument("--check", action="store_true", help="only compare")
    args = parser.parse_args()
    files = wanted()
    if args.check:
        lines = drift(files)
        print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
        return 1 if lines else 0
    for path, source in files.items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    for line in drift(files):  # those that are too many are left
        (ROOT / line.partition(": ")[2]).unlink()
    print(f"{len(files)} files in {len(PACKAGES)} folders")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
