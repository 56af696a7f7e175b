"""The store of a user: artifacts by their digests, once for all workspaces, and what was unpacked of them.

blobs/sha256/HEX   artifacts: manifests, configs, layers; each whole or not there
roots/….json       what must stay, and for whom
trees/HEX          artifacts that were unpacked so that they can run
users/…            what living processes need
lock               held by all who use it for moments, and by `gc` for itself alone
"""

from __future__ import annotations

from loop_kit.store._roots import Root
from loop_kit.store._store import Damage, Store, Swept
from loop_kit.store._trees import Tree, Trees
from loop_kit.store._use import Use

__all__ = ["Damage", "Root", "Store", "Swept", "Tree", "Trees", "Use"]
