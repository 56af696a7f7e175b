"""A small registry for development, and for sites without a network: the distribution API of OCI on a store.

    content = Content(Store(folder), Bounds())
    with content.opened():
        async with serving(Api(content), "127.0.0.1:5000") as server:
            await server.stopped(stop)

Blobs are those of a store, once for all repositories, and each manifest is one of its roots. What a repository has of
them, and the names that it gives, are small files beside them; `_content.py` says which.
"""

from __future__ import annotations

from loop_kit.registry._api import Api
from loop_kit.registry._bounds import Bounds
from loop_kit.registry._content import Content, default
from loop_kit.registry._serving import Server, serving
from loop_kit.registry._users import Users

__all__ = ["Api", "Bounds", "Content", "Server", "Users", "default", "serving"]
