"""Where tools are: the files NAME-VERSION.tar.gz of a server, and a list of their versions, NAME.json.

wit/deps/pkg/pkg.wit says what each function promises; an error is raised as a case of its `error`.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import resolver
from wit_world.imports import http_client, settings


def base() -> str:
    """The server's address, by the config of loop.toml."""
    return json.loads(settings.config())["base"]


def listed(name: str) -> dict[str, str]:
    """What the server has in one of its lists: versions with their SHA-256."""
    response = http_client.fetch(http_client.Request("GET", f"{base()}/{name}.json", [], None), None)
    if response.status != 200:
        raise Err(resolver.Error_NotFound(f"there is no {name}"))
    return json.loads(response.body)


def order(version: str) -> list[int]:
    """What versions are sorted by."""
    return [int(part) for part in version.split(".")]


class Resolver(exports.Resolver):
    """The interface, by its name."""

    def versions(self, name):
        return [resolver.Release(version, False, False) for version in sorted(listed(name), key=order)]

    def resolve(self, name, ranges):
        fits = [v for v in listed(name) if all(v == r or v.startswith(f"{r}.") for r in ranges)]
        if not fits:
            raise Err(resolver.Error_NotFound(f"no version of {name} is in {' and '.join(ranges)}"))
        return sorted(fits, key=order, reverse=True)

    def artifact(self, name, version, platform):
        file = f"{name}-{version}.tar.gz"
        return resolver.Asset(file, f"{base()}/{file}", [], f"sha256:{listed(name)[version]}", None)

    def verify(self, name, version, asset, digests):
        return True  # the host has compared the checksum

    def metadata(self, name, version, asset):
        return None

    def unpack(self, name, version, asset):
        return resolver.Plan(resolver.Archive.TAR, 0, "", [], [], resolver.Layout.ALONE)

    def needs(self, name, version, platform, entries):
        return []

    def bins(self, name, version, platform, entries):
        runs = [entry.path for entry in entries if entry.executable]
        return [resolver.Bin(path.rpartition("/")[2], path, resolver.Runner.NATIVE) for path in runs]

    def looks_at(self):
        return []

    def detect(self, file, content):
        return []
