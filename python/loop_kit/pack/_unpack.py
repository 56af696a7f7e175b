"""Unpacks packages, and says how to run what is in them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loop_kit.errors import PackageError
from loop_kit.manifest import Provider
from loop_kit.oci import model
from loop_kit.oci.archive import Bounds, untar, unzip
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor, Index, Manifest, Platform
from loop_kit.oci.platform import choose, this_platform
from loop_kit.oci.wasm import is_wasm, wasm_layer
from loop_kit.pack._plan import problem
from loop_kit.pack._python import stem
from loop_kit.pack.config import CONFIG, SBOM, TREES, WHEEL, ProviderConfig, Runtime, parse
from loop_kit.packed import paths_of

__all__ = ["Runnable", "config_of", "part_of", "unpack"]

_SPARE = 1 << 20


@dataclass(frozen=True)
class Runnable:
    """What was unpacked, and how it runs.

    Attributes:
        kind: What it is.
        place: Its folder, which nobody is to change.
        wasm: The component's file; None for anything else.
        config: What its package says; None for a component.
    """

    kind: Literal["component", "python", "node", "native"]
    place: Path
    wasm: Path | None = None
    config: ProviderConfig | None = None

    @property
    def tree(self) -> Path:
        """The folder that a provider runs in."""
        return self.place / "tree"

    def provider(self, declared: Provider) -> Provider:
        """A manifest's provider, as it runs out of the package.

        Args:
            declared: What the manifest says of it. A Python provider that is `trusted` runs in the host's process, any
                other one in a process of its own.

        Raises:
            PackageError: What would run it is not there, or it is not reached by the transport.
        """
        if self.wasm is not None:
            return dataclasses.replace(declared, placement="component", target=str(self.wasm), path=self.wasm)
        config = self.config
        assert config is not None
        folder = self.tree
        if config.kind == "python" and declared.trusted:
            return dataclasses.replace(
                declared,
                placement="python",
                target=config.entry,
                path=None,
                folder=folder,
                paths=tuple(paths_of(self.place)),
                transport="",
            )
        transport = declared.transport or "unix"
        # what has an SDK is reached by all, over a gateway
        if config.handshake is None and transport not in config.transports:
            hint = f'write transport = "{config.transports[0]}"'
            raise problem(
                f"{config.name} is reached by {', '.join(config.transports)}, not by {transport}", hint
            )
        match config.kind:
            case "python":
                program: tuple[str, ...] = (
                    sys.executable, "-P", "-m", "loop_kit.packed", str(self.place), config.entry,
                )  # fmt: skip
            case "node":
                if shutil.which("node") is None:
                    version = config.runtime.version if config.runtime else ""
                    raise problem(
                        f"{config.name} runs in Node.js {version}, and there is no `node` in PATH",
                        "install Node.js",
                    )
                program = ("node", str(folder / config.entry))
            case "native":
                program = (str(folder / config.entry),)
        return dataclasses.replace(
            declared,
            placement="sidecar",
            target="",
            path=None,
            command=(*program, *config.args),
            folder=folder,
            handshake=config.handshake is not None,
            transport=transport,
        )


def part_of(
    blobs: Blobs, descriptor: Descriptor, platform: Platform | None = None
) -> tuple[Descriptor, Manifest]:
    """The manifest of a package: its own, or that of its part for a platform.

    Raises:
        PackageError: It is no package, has nothing for the platform, or not all of it is there.
    """
    what = str(descriptor.annotations.get("org.opencontainers.image.title") or descriptor.digest)
    found = model.parse(
        blobs.read(descriptor.digest, most=model.MOST_BYTES), descriptor.media_type, what=what
    )
    if isinstance(found, Index):
        descriptor = choose(found, platform or this_platform(), what=what)
        found = model.parse(
            blobs.read(descriptor.digest, most=model.MOST_BYTES), descriptor.media_type, what=what
        )
    if isinstance(found, Index):
        raise PackageError(f"{what}: an index lists another index, and no package")
    return descriptor, found


def config_of(blobs: Blobs, manifest: Manifest, *, what: str = "the config") -> ProviderConfig | None:
    """What a package says of the provider in it; None where it holds a component.

    Raises:
        PackageError: It is neither.
    """
    if is_wasm(manifest):
        return None
    if manifest.kind != CONFIG:
        hint = f"a component has a config of application/vnd.wasm.config.v0+json, a provider one of {CONFIG}"
        raise problem(f"{what}: it is {manifest.kind}: neither a component nor a provider", hint)
    return parse(blobs.read(manifest.config.digest, most=model.MOST_BYTES), what=what)


def unpack(
    blobs: Blobs,
    descriptor: Descriptor,
    place: str | os.PathLike[str],
    *,
    platform: Platform | None = None,
    bounds: Bounds | None = None,
) -> Runnable:
    """Unpacks a package, so that it can be run without network, pip or npm.

    Args:
        blobs: Where the package is. What is unpacked is compared with its digests.
        descriptor: The package, or one part of it.
        place: A folder for it, which is there whole or not at all. One that is there is taken for what it was made of.
        platform: For which it is; None: this machine.
        bounds: How much it may be.

    Raises:
        PackageError: It is none, has nothing for this machine, or holds something that is not unpacked.
        OSError: It cannot be written.
    """
    folder = Path(place).absolute()
    part, manifest = part_of(blobs, descriptor, platform)
    config = config_of(blobs, manifest, what=part.digest)
    if config is not None:
        _check(config, platform or this_platform())
    layers = (
        [wasm_layer(manifest)]
        if config is None
        else [layer for layer in manifest.layers if layer.media_type != SBOM]
    )
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            if config is None:
                _one_file(blobs, layers[0], made / "component.wasm")
            else:
                _layers(blobs, layers, made, config, bounds or Bounds())
            _sync(made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # else somebody was quicker
                    raise
    if config is None:
        return Runnable("component", folder, folder / "component.wasm")
    return Runnable(config.kind, folder, config=config)


def _layers(
    blobs: Blobs, layers: list[Descriptor], made: Path, config: ProviderConfig, bounds: Bounds
) -> None:
    (made / "tree").mkdir()
    left, entries = min(bounds.size, config.unpacked + _SPARE), bounds.entries
    for number, layer in enumerate(layers):
        blobs.verify(layer.digest)
        what = layer.annotations.get("org.opencontainers.image.title") or layer.digest
        within = dataclasses.replace(bounds, size=left, entries=entries)
        with blobs.path(layer.digest).open("rb") as file:
            if layer.media_type in TREES:
                at = made / f"layer-{number}"
                left -= untar(file, at, within, what=what)
                _merge(at, made / "tree", what)
            elif layer.media_type == WHEEL and config.kind == "python":
                at = made / "wheels" / stem(what)
                left -= unzip(file, at, within, what=what)
                for inner in ("purelib", "platlib"):
                    for data in list(at.glob(f"*.data/{inner}")):
                        _merge(data, at, what)
            else:
                raise PackageError(f"{what} is of {layer.media_type}, which no {config.kind} provider has")
        left = max(left, 0)
    entry = made / "tree" / config.entry
    if config.kind != "python" and not (entry.is_file() and entry.resolve().is_relative_to(made.resolve())):
        raise PackageError(f"{config.name}: there is no {config.entry} in the package")


def _merge(source: Path, into: Path, what: str) -> None:
    """Moves what is in a folder into another, in which nothing of that name may be but folders."""
    for path in source.iterdir():
        target = into / path.name
        if target.is_dir() and not target.is_symlink() and path.is_dir() and not path.is_symlink():
            _merge(path, target, what)
        elif target.exists() or target.is_symlink():
            raise PackageError(f"{what}: {path.name} is in the package twice")
        else:
            path.rename(target)
    source.rmdir()


def _one_file(blobs: Blobs, layer: Descriptor, to: Path) -> None:
    blobs.verify(layer.digest)
    shutil.copyfile(blobs.path(layer.digest), to)


def _sync(folder: Path) -> None:
    """Has all of a folder on the disk before it gets its name, so that a crash leaves no half of it."""
    for at, _, files in os.walk(folder):
        for path in (*(os.path.join(at, name) for name in files), at):
            if not os.path.islink(path):
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)


def _check(config: ProviderConfig, platform: Platform) -> None:
    """Raises PackageError where the machine, or this Python, is not what it was packed for."""
    wanted = config.platform
    if wanted is not None and (wanted.os, wanted.architecture) != (platform.os, platform.architecture):
        raise problem(
            f"{config.name} is for {wanted}, and this machine is {platform}", "take the part that is for it"
        )
    runtime = config.runtime
    if config.kind == "python" and runtime is not None and not _fits(runtime, sys.version_info[:2]):
        have = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise problem(
            f"{config.name} was packed for Python {runtime.version}, and this one is {have}",
            f"have it packed by Python {have}, or run loop-kit in that one",
        )


def _fits(runtime: Runtime, version: tuple[int, ...]) -> bool:
    numbers = tuple(int(part) for part in runtime.version.removeprefix(">=").split("."))
    return version >= numbers[:2] if runtime.version.startswith(">=") else version == numbers[:2]
