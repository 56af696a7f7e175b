# mypy: disable-error-code="no-untyped-def"
"""A resolver in plain Python: the files NAME-VERSION.tar.gz of a server, and a list of their versions, NAME.json."""

import json
from urllib.error import HTTPError
from urllib.request import urlopen

from loop_kit import Err, provider
from loop_kit.pkg import WIT


@provider.provider("loop:pkg/resolver@0.1.0-dev", wit=WIT)
class Tools:
    def __init__(self, config, grant):
        self.base, self.allowed = config["base"], grant["allow"]

    def versions(self, name):
        try:
            with urlopen(f"{self.base}/{name}.json") as answer:
                self.sums = json.load(answer)
        except HTTPError:
            raise Err(("not-found", f"there is no {name}")) from None
        known = sorted(self.sums, key=lambda version: [int(part) for part in version.split(".")])
        return [{"version": version, "prerelease": False, "yanked": False} for version in known]

    def resolve(self, name, ranges):
        known = [release["version"] for release in self.versions(name)]
        found = [one for one in known if all(one == r or one.startswith(f"{r}.") for r in ranges)]
        if not found:
            raise LookupError(f"no version of {name}")
        return found[::-1]

    def artifact(self, name, version, platform):
        file = f"{name}-{version}.tar.gz"
        checksum = f"sha256:{self.sums[version]}"
        return {"file": file, "url": f"{self.base}/{file}", "headers": [], "checksum": checksum, "size": None}

    def verify(self, name, version, asset, digests):
        return True

    def metadata(self, name, version, asset):
        return None

    def unpack(self, name, version, asset):
        return {"archive": "tar", "strip": 0, "into": "", "only": [], "metadata": [], "layout": "alone"}

    def needs(self, name, version, platform, entries):
        return []

    def bins(self, name, version, platform, entries):
        return [{"name": one.path, "path": one.path, "runner": "native"} for one in entries if one.executable]

    def looks_at(self):
        return []

    def detect(self, file, content):
        return []
