"""What is signed: a statement of in-toto that a digest is a release of an artifact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loop_kit.trust import _json
from loop_kit.trust._reasons import untrusted

__all__ = ["NAME_PATTERN", "PAYLOAD_TYPE", "PREDICATE", "VERSION_PATTERN", "Statement", "instant", "moment"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE = "urn:loop-kit:release:v1"
_TYPE = "https://in-toto.io/Statement/v1"
_FORMER = "https://in-toto.io/Statement/v0.1"
"""As cosign still writes it. What is read of it here is the same."""

NAME_PATTERN = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
"""Of artifacts: `REGISTRY/REPOSITORY`."""
VERSION_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$"

_MOST_NAME = 255
_MOST_SERIAL = 2**53
_MOST_SUBJECTS = 64
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True)
class Statement:
    """Says of an artifact's root that it is a release.

    Attributes:
        digest: The root: an image manifest, or an index.
        name: What the artifact is called, `REGISTRY/REPOSITORY`.
        version: Its version, as people write it.
        serial: A number that grows from release to release: what is older than what was seen is no news.
        signed: When it was signed, in seconds since 1970.
        expires: From when on it says nothing more; None: it has no end.
    """

    digest: str
    name: str
    version: str
    serial: int
    signed: int
    expires: int | None = None

    def to_bytes(self) -> bytes:
        """The payload of an envelope."""
        algorithm, _, value = self.digest.partition(":")
        predicate: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "serial": self.serial,
            "signed": instant(self.signed),
        }
        if self.expires is not None:
            predicate["expires"] = instant(self.expires)
        return _json.canonical(
            {
                "_type": _TYPE,
                "subject": [{"name": self.name, "digest": {algorithm: value}}],
                "predicateType": PREDICATE,
                "predicate": predicate,
            }
        )

    @classmethod
    def parse(cls, payload: bytes, digest: str) -> Statement:
        """Reads the payload of an envelope that was verified, as far as it is about `digest`.

        Fields that are not known are passed over, as in-toto wants it.

        Raises:
            Untrusted: It is no such statement, or is about something else.
        """
        found = _json.read(payload, "the signed statement")
        if found.get("_type") not in (_TYPE, _FORMER):
            raise untrusted("payload-type", f"what was signed is not a statement of in-toto, {_TYPE}")
        if found.get("predicateType") != PREDICATE:
            raise untrusted("payload-type", f"the signed statement does not name a release, {PREDICATE}")
        subjects = found.get("subject")
        if not isinstance(subjects, list) or not 0 < len(subjects) <= _MOST_SUBJECTS:
            raise untrusted("malformed", "the signed statement names nothing as its subject, or too much")
        algorithm, _, value = digest.partition(":")
        if not any(_digest(one, algorithm) == value for one in subjects):
            raise untrusted("wrong-subject", f"it was signed for another artifact than {digest}")
        predicate = found.get("predicate")
        if not isinstance(predicate, dict):
            raise untrusted("malformed", "the signed statement has no predicate")
        serial = predicate.get("serial")
        if not isinstance(serial, int) or isinstance(serial, bool) or not 0 <= serial < _MOST_SERIAL:
            raise untrusted("malformed", "serial of the signed statement is not a whole number below 2**53")
        expires = predicate.get("expires")
        return cls(
            digest,
            _matching(predicate.get("name"), "name", NAME_PATTERN),
            _matching(predicate.get("version"), "version", VERSION_PATTERN),
            serial,
            _moment(predicate.get("signed"), "signed"),
            None if expires is None else _moment(expires, "expires"),
        )


def instant(seconds: int) -> str:
    """Seconds since 1970 as `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> int:
    """Reads what `instant` writes.

    Raises:
        ValueError: It is something else.
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a time such as 2026-01-31T12:00:00Z")
    return int(datetime.fromisoformat(text).timestamp())


def _digest(subject: Any, algorithm: str) -> Any:
    digests = subject.get("digest") if isinstance(subject, dict) else None
    return digests.get(algorithm) if isinstance(digests, dict) else None


def _matching(value: Any, name: str, pattern: str) -> str:
    if not isinstance(value, str) or len(value) > _MOST_NAME or not re.fullmatch(pattern, value):
        raise untrusted("malformed", f"{name} of the signed statement is not one")
    return value


def _moment(value: Any, name: str) -> int:
    try:
        return moment(value if isinstance(value, str) else "")
    except ValueError:
        raise untrusted("malformed", f"{name} of the signed statement is not a time in UTC") from None
