"""Packages: what becomes of a component or a provider when it is shipped, and back again.

    descriptor = await pack(manifest, "kv", blobs)      # of loop.toml, into blobs
    runnable = unpack(blobs, descriptor, "place/kv")    # without network, pip or npm
    provider = runnable.provider(manifest.providers["kv"])

Components are laid out as the WASM working group has them. A provider is a manifest whose config, `ProviderConfig`, says
what it is, serves and needs; where it runs on some platforms alone it is an index with a manifest for each.
"""

from __future__ import annotations

from loop_kit.pack._bill import refer
from loop_kit.pack._contents import contents
from loop_kit.pack._describe import Description, describe
from loop_kit.pack._make import pack
from loop_kit.pack._plan import Plan, packable, plan
from loop_kit.pack._unpack import Runnable, config_of, part_of, unpack
from loop_kit.pack._whole import whole
from loop_kit.pack.config import ProviderConfig
from loop_kit.pack.platforms import platform_of_triple

__all__ = [
    "Description", "Plan", "ProviderConfig", "Runnable", "config_of", "contents", "describe", "pack", "packable",
    "part_of", "plan", "platform_of_triple", "refer", "unpack", "whole",
]  # fmt: skip
