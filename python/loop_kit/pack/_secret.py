"""What never goes into a package: what opens doors elsewhere."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

__all__ = ["why_secret"]

_NAMES = (
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".yarnrc*", ".pypirc", "pip.conf",
    ".git-credentials", ".htpasswd", ".pgpass", ".my.cnf", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx",
    "*.ppk", "*.creds", "*.nk", "*.age", "*.gpg", "*.tfstate", "*.tfvars", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
    "credentials", "credentials.json", "secrets.*", "cargo-credentials*",
)  # fmt: skip
_PUBLIC = (".env.example", ".env.sample", ".env.template")
_FOLDERS = frozenset((".ssh", ".aws", ".azure", ".gcloud", ".gnupg", ".docker", ".kube", ".secrets"))
_CONTENT = re.compile(
    # with what follows: code that looks for keys has their first lines, too
    rb"-----BEGIN (?:[A-Z0-9]+ )*(?:PRIVATE KEY(?: BLOCK)?|USER NKEY SEED)-----(?:\s|\\[nr])+"
    rb"(?:[A-Za-z0-9+/=]{24}|Proc-Type:|Version:)"
    rb"|AGE-SECRET-KEY-1[0-9A-Z]{40}|PuTTY-User-Key-File-\d:"
)
_LOOK = 1 << 20
"""Bytes of a file, from its beginning, that are searched for keys."""


def why_secret(path: Path, name: str) -> str | None:
    """Why a file must not be packed; None: it may.

    Args:
        path: The file, or link.
        name: Where it is in the package, or the workspace, with `/`.
    """
    *folders, last = name.lower().split("/")
    if last not in _PUBLIC and any(fnmatch.fnmatchcase(last, pattern) for pattern in _NAMES):
        return "is named as secrets are"
    if not _FOLDERS.isdisjoint(folders):
        return "lies where secrets do"
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        found = _CONTENT.search(file.read(_LOOK))
    return None if found is None else "holds a private key"
