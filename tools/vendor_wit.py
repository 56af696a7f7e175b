#!/usr/bin/env python3
"""Vendor WASI's WIT packages, and those of others that run here, or check that nobody changed them.

The files come from crates, so that what guests compile against is what the host links, or what their own SDK has. Cargo
fetches those crates alone, without what they depend on; `wit/deps/vendored.json` records the digest of each file, so
that a check needs neither them nor a network.

    tools/vendor_wit.py          write them, and the record
    tools/vendor_wit.py --check  exit 1 and name each file that is missing, changed or too many, and each crate whose
                                 version is no longer the one that was vendored
"""

import argparse
import hashlib
import json
import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path("wit/deps/vendored.json")
# Crates that nothing here is built from. Those of wasmtime have the version of the engine's, by Cargo.lock.
VERSIONS = {"spin-sdk": "5.2.0"}
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
    # the same for new projects, which the wheel has what they need for
    "python/loop_kit/new/wit/wasi-0.3": Package("wasmtime-wasi-http/src/p3/wit/deps", WASMTIME_LICENSE),
    "python/loop_kit/capabilities/keyvalue/wit": Package(
        "wasmtime-wasi-keyvalue/wit/deps/keyvalue", WASMTIME_LICENSE
    ),
    "wit/deps/keyvalue-draft2": Package("spin-sdk/wit/deps/keyvalue-2024-10-17", "spin-sdk/LICENSE"),
    # The rest of Spin's package needs WASI's HTTP; its head is repeated in the world beside it.
    "wit/deps/spin-2.0": Package(
        "spin-sdk/wit/deps/spin@2.0.0", "spin-sdk/LICENSE", "key-value.wit", ("world.wit",)
    ),
}


def versions() -> dict[str, str]:
    """Each crate that is taken from -> its version."""
    names = {path.partition("/")[0] for of in PACKAGES.values() for path in (of.crate, of.license)}
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text("utf-8"))["package"]
    (engine,) = (package["version"] for package in locked if package["name"] == "wasmtime")
    return {name: VERSIONS.get(name, engine) for name in sorted(names)}


def fetched(crate: str, version: str) -> Path:
    """Where cargo keeps the sources of a crate, which it has fetched and checked by its index."""
    # of cargo's commands, the one that fetches a crate without what it depends on
    subprocess.run(["cargo", "info", "--quiet", f"{crate}@{version}"], check=True, stdout=subprocess.DEVNULL)
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    return next(home.glob(f"registry/src/*/{crate}-{version}"))


def originals(crates: dict[str, str]) -> dict[Path, bytes]:
    """Each file that belongs here, from the root of the repository -> what is in it."""
    folders = {name: fetched(name, version) for name, version in crates.items()}
    files = {}
    for folder, package in PACKAGES.items():
        crate, _, below = package.crate.partition("/")
        for source in sorted((folders[crate] / below).glob(package.files)):
            files[Path(folder, source.name)] = source.read_bytes()
        crate, _, below = package.license.partition("/")
        files[Path(folder, "LICENSE")] = (folders[crate] / below).read_bytes()
    return files


def present() -> dict[str, str]:
    """Each copy that is here, from the root of the repository -> its digest."""
    return {
        f"{folder}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder, package in PACKAGES.items()
        for path in sorted((ROOT / folder).iterdir())
        if path.name not in package.own
    }


def drift() -> list[str]:
    """One line for each difference between what is here and what was recorded."""
    record = json.loads((ROOT / RECORD).read_text("utf-8"))
    ours, files, crates = present(), record["files"], versions()
    lines = [f"missing: {path}" for path in sorted(files.keys() - ours.keys())]
    lines += [f"too many: {path}" for path in sorted(ours.keys() - files.keys())]
    lines += [f"changed: {path}" for path in sorted(ours.keys() & files.keys()) if ours[path] != files[path]]
    if record["crates"] != crates:
        lines.append(f"crates: {RECORD} has {record['crates']}, here are {crates}; run `make wit`")
    return lines


def main() -> int:
    """Run as the command line asks; the return value is the exit code."""
    parser = argparse.ArgumentParser(description="Vendor the WIT packages of others.")
    parser.add_argument("--check", action="store_true", help="only compare")
    if parser.parse_args().check:
        lines = drift()
        print("\n".join(lines) or f"{len(present())} vendored files are as they were recorded")
        return 1 if lines else 0
    crates = versions()
    files = originals(crates)
    for path, content in files.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_bytes(content)
    for name in present().keys() - {str(path) for path in files}:
        (ROOT / name).unlink()
    record = {"crates": crates, "files": present()}
    (ROOT / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    print(f"{len(files)} files in {len(PACKAGES)} folders")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
