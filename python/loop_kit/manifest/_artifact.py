"""`oci:REGISTRY/REPOSITORY:TAG` and `oci-layout:FOLDER:TAG`: components and providers that are artifacts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_kit.manifest import model
from loop_kit.manifest._shape import Cursor, JsonSchema, Text
from loop_kit.manifest._text import absolute
from loop_kit.manifest._toml import string

if TYPE_CHECKING:
    from loop_kit.lock import Entry, Lock
    from loop_kit.manifest._source import Source

__all__ = ["ARTIFACT", "CODE", "check_artifact", "component", "is_artifact", "resolved"]

SCHEMES = ("oci", "oci-layout")

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PORT = ":[1-9][0-9]{0,4}"
_REGISTRY = rf"((localhost|{_LABEL}(\.{_LABEL})+|\[[0-9a-fA-F:]+\])({_PORT})?|{_LABEL}{_PORT})"
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_TAG = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = "(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
_WHICH = f"(:{_TAG}(@{_DIGEST})?|@{_DIGEST})"
ARTIFACT = rf"oci:{_REGISTRY}/{_PART}(/{_PART})*{_WHICH}|oci-layout:[^\u0000:@]+{_WHICH}"
"""What names an artifact."""

_EXAMPLES = ("oci:registry.example/acme/site:1.2.0", f"oci:registry.example/acme/site@sha256:{'0' * 64}")
_FORMS = '"oci:REGISTRY/REPOSITORY:TAG", with @sha256:… after it or in the place of the tag'


def is_artifact(text: str) -> bool:
    """Whether a `use` or `path` names an artifact, rightly or not."""
    return text.partition(":")[0] in SCHEMES


def check_artifact(text: str, at: Cursor) -> None:
    """Reports what is no name of an artifact."""
    if re.fullmatch(ARTIFACT, text):
        return
    hint = None
    if re.fullmatch(ARTIFACT, f"{text}:1"):
        hint = f"say which of them: {string(f'{text}:TAG')}"
    elif text.startswith("oci:") and re.fullmatch(ARTIFACT, text.lower()):
        hint = f"did you mean {string(text.lower())}?"
    elif text.startswith("oci:") and not re.match(rf"oci:{_REGISTRY}/", text):
        hint = "it begins with a registry, as in registry.example/acme/site:1.2"
    at.problem(f"expected {_FORMS}, got {string(text)}", hint)


class _Code(Text):
    """A file, or an artifact that holds it."""

    def read(self, value: str, at: Cursor) -> Any:
        if not is_artifact(value):
            return super().read(value, at)
        check_artifact(value, at)
        return model.Artifact(value)

    def schema(self, defs: JsonSchema) -> JsonSchema:
        pattern = rf"^(?!(oci|oci-layout):)[^\u0000]+$|^({ARTIFACT})$"
        return {"type": "string", "pattern": pattern, "examples": ["build/site.wasm", *_EXAMPLES]}


CODE = _Code("a path", r"^[^\u0000]+$", absolute)


def component(name: str, path: Path | model.Artifact, **values: Any) -> model.Component:
    """A component of the manifest, of a file or of an artifact that is not resolved yet."""
    if isinstance(path, model.Artifact):
        return model.Component(name, _nowhere(), artifact=path, **values)
    return model.Component(name, path, **values)


def _nowhere() -> Path:
    """Where the code of an artifact is that is not resolved: there is no such file."""
    from loop_kit.store._folder import default

    return default() / "not-resolved"


def resolved(
    source: Source, components: dict[str, model.Component], providers: dict[str, model.Provider], at: Cursor
) -> None:
    """Has artifacts be what `loop.lock` says; those that it does not have stay as they are.

    Raises:
        ManifestError: The lock cannot be read.
    """
    if not any(one.artifact for one in _all(components.values(), providers.values())):
        return
    from loop_kit.lock import lock_of, read

    path = lock_of(source.path)
    lock = read(path, shown=str(Path(source.shown).with_name(path.name)))
    for name, one in components.items():
        if one.artifact is not None:
            components[name] = _component(one, one.artifact, lock)
    for name, provider in providers.items():
        if provider.artifact is not None:
            providers[name] = _provider(provider, provider.artifact, lock, at)


def _all(*groups: Iterable[Any]) -> list[Any]:
    return [one for group in groups for one in group]


def _entry(artifact: model.Artifact, entry: Entry | None) -> model.Artifact:
    if entry is None:
        return artifact
    if entry.reference != artifact.reference:
        return dataclasses.replace(artifact, stale=entry.reference)
    return dataclasses.replace(artifact, entry=entry)


def _file(entry: Entry) -> Path:
    from loop_kit.oci.blobs import Blobs
    from loop_kit.store._folder import default

    assert entry.code is not None
    return Blobs(default()).path(entry.code)


def _component(one: model.Component, artifact: model.Artifact, lock: Lock) -> model.Component:
    made = _entry(artifact, lock.components.get(one.name))
    path = _file(made.entry) if made.entry is not None and made.entry.code is not None else one.path
    return dataclasses.replace(one, artifact=made, path=path)


def _provider(one: model.Provider, artifact: model.Artifact, lock: Lock, at: Cursor) -> model.Provider:
    made = _entry(artifact, lock.providers.get(one.name))
    if made.entry is None:
        return dataclasses.replace(one, artifact=made)
    if made.entry.kind == "provider":
        return dataclasses.replace(one, artifact=made, placement="sidecar")
    from loop_kit.manifest._provider import of_sidecars

    here = at.child("providers").child(one.name)
    for key in of_sidecars(at.source.parse()["providers"].get(one.name, {})):
        message = f"{string(key)} is of a provider in a process of its own, and {one.use} is a component"
        here.problem(message, "remove it", at="key", child=key)
    return dataclasses.replace(
        one, artifact=made, placement="component", path=_file(made.entry), transport=""
    )
