#!/usr/bin/env python3
"""Build the components that ship with loop-kit, or check that they are what their sources make.

    tools/build_components.py [PACKAGE/WHAT ...]          build these, or all
    tools/build_components.py --check [PACKAGE/WHAT ...]  exit 1 and name each that differs from its sources

The crate `components/PACKAGE-WHAT` becomes `PACKAGE/components/WHAT.wasm` in `python/loop_kit/capabilities`, with a
record of what it was built from beside it; guests of tests, `components/test-WHAT`, go to `tests/capabilities/guests`. A
check compares that record, which takes no compiler; where the target and
the compiler of the record are there, it builds too and compares the bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "components"
CAPABILITIES = ROOT / "python" / "loop_kit" / "capabilities"
GUESTS = ROOT / "tests" / "capabilities" / "guests"
TARGET = "wasm32-unknown-unknown"


@dataclass(frozen=True)
class Crate:
    """One component's crate."""

    folder: Path

    @property
    def package(self) -> str:
        return self.folder.name.partition("-")[0]

    @property
    def what(self) -> str:
        return self.folder.name.partition("-")[2]

    @property
    def wasm(self) -> Path:
        folder = GUESTS if self.package == "test" else CAPABILITIES / self.package / "components"
        return folder / f"{self.what}.wasm"

    @property
    def record(self) -> Path:
        return self.wasm.with_suffix(".json")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "Cargo.toml").read_text())

    def recorded(self) -> dict[str, str]:
        return dict(json.loads(self.record.read_text())) if self.record.is_file() else {}

    def sources(self) -> str:
        """A digest of all that decides what is built, apart from the compiler."""
        told = self.manifest["package"]["metadata"]["loop"]
        files = [self.folder / "Cargo.toml", *(SOURCES / "encode" / "src").rglob("*.rs")]
        for name in ("src", "wit"):
            files += [path for path in (self.folder / name).rglob("*") if path.is_file()]
        folders = [CAPABILITIES / capability / "wit" for capability in told["capabilities"]]
        for folder in folders + [ROOT / "wit" / "deps" / name for name in told.get("vendored", ())]:
            files += folder.glob("*.wit")
        files += (CAPABILITIES.parent / "wit").glob("*.wit")
        digest = hashlib.sha256()
        for path in sorted(files):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
        workspace = tomllib.loads((SOURCES / "Cargo.toml").read_text())
        shared = {key: workspace[key] for key in ("profile",)} | {
            "package": workspace["workspace"]["package"]
        }
        digest.update(json.dumps([shared, _locked(self.folder.name), _locked("encode")]).encode())
        return digest.hexdigest()


def crates() -> dict[str, Crate]:
    """All of them by `PACKAGE/WHAT`."""
    folders = (path.parent for path in SOURCES.glob("*-*/Cargo.toml"))
    return {f"{crate.package}/{crate.what}": crate for crate in map(Crate, sorted(folders))}


def _locked(name: str) -> list[list[str]]:
    """The versions and checksums of whatever a crate of the workspace depends on."""
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads((SOURCES / "Cargo.lock").read_text())["package"]:
        packages.setdefault(package["name"], []).append(package)
    wanted, found = [name], {}
    while wanted:
        text = wanted.pop()
        named, _, version = text.partition(" ")
        for package in packages[named]:
            key = (named, package["version"])
            if key not in found and version.partition(" ")[0] in ("", package["version"]):
                found[key] = package.get("checksum", "")
                wanted += package.get("dependencies", [])
    return [[*key, checksum] for key, checksum in sorted(found.items())]


def stale(chosen: dict[str, Crate]) -> list[str]:
    """One line for each whose record says that it was built from other sources, or not at all."""
    lines = []
    for name, crate in chosen.items():
        if not crate.wasm.is_file() or not crate.record.is_file():
            lines.append(f"{name}: was never built")
            continue
        record = crate.recorded()
        if record["sources"] != crate.sources():
            lines.append(f"{name}: its sources have changed since it was built")
        if record["sha256"] != hashlib.sha256(crate.wasm.read_bytes()).hexdigest():
            lines.append(f"{name}: it is not the file that was built")
    known = {crate.wasm for crate in crates().values()}
    extra = {*CAPABILITIES.glob("*/components/*.wasm"), *GUESTS.glob("*.wasm")} - known
    return lines + [f"{path.relative_to(ROOT)}: has no sources" for path in sorted(extra)]


def compiler() -> str | None:
    """The version of the compiler, if it can build for the target."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, stdout=subprocess.PIPE, text=True)
    if not (Path(sysroot.stdout.strip()) / "lib" / "rustlib" / TARGET / "lib").is_dir():
        return None
    version = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True)
    return version.stdout.split()[1]


def build(chosen: dict[str, Crate], folder: Path) -> dict[str, bytes]:
    """The components, made anew. `folder`: for what is between."""
    environment = dict(os.environ)
    output = Path(environment.setdefault("CARGO_TARGET_DIR", str(SOURCES / "target")))
    cargo = Path(environment.get("CARGO_HOME") or Path.home() / ".cargo")
    run = ["cargo", "--quiet"]
    subprocess.run([*run, "build", "--release", "--locked", "-p", "encode"], cwd=SOURCES, check=True)
    # What a panic says of its place must be the same on every machine.
    places = {ROOT: "loop-kit", **dict.fromkeys((cargo / "registry" / "src").glob("*"), "crates")}
    environment["RUSTFLAGS"] = " ".join(f"--remap-path-prefix={path}={name}" for path, name in places.items())
    made = {}
    for name, crate in chosen.items():
        # each alone: together, one would be built with what another asks of a crate that both depend on
        command = [*run, "build", "--release", "--locked", "--target", TARGET, "-p", crate.folder.name]
        subprocess.run(command, cwd=SOURCES, env=environment, check=True)
        module = output / TARGET / "release" / f"{crate.folder.name.replace('-', '_')}.wasm"
        component = folder / "component.wasm"
        subprocess.run([output / "release" / "encode", module, component], check=True)
        made[name] = component.read_bytes()
    return made


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if one differs")
    parser.add_argument("names", nargs="*", metavar="PACKAGE/WHAT", help="which; all by default")
    args = parser.parse_args()
    known = crates()
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = {name: known[name] for name in args.names or known}
    problems = stale(chosen) if args.check else []
    told = {line.partition(":")[0] for line in problems}
    version = compiler()
    if version is None:
        if not args.check:
            parser.error(f"the target is not installed: `rustup target add {TARGET}` does that")
        print(f"not built: `rustup target add {TARGET}` installs what that takes", file=sys.stderr)
    else:
        if args.check:
            # another compiler makes other code of the same sources
            chosen = {
                name: crate for name, crate in chosen.items() if crate.recorded().get("rust") == version
            }
        with tempfile.TemporaryDirectory() as folder:
            made = build(chosen, Path(folder)) if chosen else {}
        for name, component in made.items():
            crate = chosen[name]
            if not args.check:
                crate.wasm.parent.mkdir(exist_ok=True)
                crate.wasm.write_bytes(component)
                record = {
                    "instances": crate.manifest["package"]["metadata"]["loop"].get("instances"),
                    "rust": version,
                    "sha256": hashlib.sha256(component).hexdigest(),
                    "sources": crate.sources(),
                }
                crate.record.write_text(json.dumps(record, indent=2) + "\n")
                print(f"{name}: {len(component)} bytes")
            elif component != crate.wasm.read_bytes() and not told & {name}:
                problems.append(f"{name}: building it again makes another file")
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    if problems:
        print("`make components` builds them", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
