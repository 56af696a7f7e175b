"""Properties of `loop.toml`: what may come out of it, and that the JSON Schema says what the checks say."""

import copy
import dataclasses
import json
import operator
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loop_kit
from loop_kit._units import parse_duration, parse_size
from loop_kit.manifest import (
    Bind,
    Dir,
    Limits,
    Link,
    Login,
    Manifest,
    ManifestError,
    Pack,
    Provider,
    Secret,
    Serve,
    Tls,
    Wasi,
    loads,
)
from loop_kit.manifest import schema as schema_module
from loop_kit.manifest._declare import MANIFEST
from loop_kit.manifest._shape import Cursor
from loop_kit.manifest._source import Source
from loop_kit.manifest._toml import inline, key
from loop_kit.trust.keys import PublicKey
from loop_kit.trust.policy import KeyFile, KeyId, Keyless, Policy, Rule
from tests.checkout import ROOT

SCHEMA = schema_module.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
filled = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,6}", fullmatch=True)
env_names = st.from_regex(r"[A-Z_]{1,5}", fullmatch=True)
sizes = st.integers(1, 2**53) | st.sampled_from(["1B", "64MiB", "2 GB", "9kB"])
durations = st.integers(1, 10**6) | st.floats(0.001, 1e6) | st.sampled_from(["250ms", "1.5 s", "2h"])
ports = st.integers(1, 65535)
addresses = st.builds("{}:{}".format, st.sampled_from(["127.0.0.1", "[::1]", "a-b.example"]), ports)
secrets = st.fixed_dictionaries({"env": env_names}) | st.fixed_dictionaries({"file": filled})
free = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=6,
)
frees = st.dictionaries(texts, free, max_size=2)


def table(required: dict[str, Any] | None = None, **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required or {}, optional=optional)


limits = table(
    memory=sizes,
    table_elements=st.integers(1, 10**6),
    deadline=durations,
    cpu=durations,
    fuel=st.integers(1, 10**12),
    concurrent_calls=st.integers(1, 10**4),
    payload=sizes,
    instances=st.sampled_from(["per-call", "shared"]) | st.integers(1, 100),
    cancel_grace=durations,
)
sources = st.lists(st.sampled_from(["src/**", "!*.md", "a b", "../x/[a-c]{1,2}"]), min_size=1, max_size=2)
bind = st.builds(
    operator.or_,
    st.sampled_from(
        [{"python": "t.py"}, {"typescript": "t.d.ts"}, {"python": "t.py", "typescript": "t.d.cts"}]
    ),
    table(world=filled) | table(wit=filled, interfaces=st.lists(filled, min_size=1, max_size=2)),
)
about = table(
    version=st.just("1.0.0-rc.1"),
    license=st.just("MIT OR Apache-2.0"),
    source=texts,
    grants=st.dictionaries(st.just("acme:kv"), frees, max_size=1),
)
triples = st.sampled_from(["aarch64-unknown-linux-musl", "x86_64-apple-darwin"])
package = st.builds(
    operator.or_,
    about,
    table(
        wit=filled,
        exports=st.lists(st.just("a:b/c@1.0.0"), min_size=1, max_size=1),
        files=sources,
        transports=st.lists(st.sampled_from(["unix", "shm"]), min_size=1, max_size=1),
        requirements=filled,
        wheel=filled,
    )
    | table(
        {"program": texts, "targets": st.lists(triples, min_size=1, max_size=2)},
        build=filled | st.lists(texts, min_size=1, max_size=2),
    ),
)
SHIPPED = "python:loop_kit.capabilities.core:Core"
import_keys = st.sampled_from(
    ["acme:kv", "acme:kv/store", "acme:kv/store@1.0.0", "acme:kv@2.1.0-rc.1", "log"]
)
fsx_keys = st.sampled_from(["loop:fsx", "loop:fsx/files", "loop:fsx/files@0.1.0"])
core_keys = st.sampled_from(["loop:core", "loop:core/log", "loop:core@0.1.0"])
roots = st.dictionaries(names, table({"path": filled}, mode=st.just("ro")), max_size=2)
fsx_grant = table({}, **{"roots": roots, "max-read": sizes, "max-entries": st.integers(1, 10**6)})
levels = st.sampled_from(["trace", "debug", "info", "warn", "error"])
core_grant = table(
    log=table({}, **{"level": levels, "targets": st.lists(texts, max_size=2), "max-record": sizes})
)


@st.composite
def links(draw: st.DrawFn, providers: list[str]) -> dict[str, Any]:
    if not providers:
        return {}
    provider = {"provider": st.sampled_from(providers)}
    plain = draw(st.dictionaries(import_keys, table(provider, grant=frees, budget=durations), max_size=3))
    fsx = draw(st.dictionaries(fsx_keys, table(provider, grant=fsx_grant, budget=durations), max_size=2))
    core = draw(st.dictionaries(core_keys, table(provider, grant=core_grant), max_size=2))
    return plain | fsx | core


@st.composite
def sidecars(draw: st.DrawFn, text_or_secret: st.SearchStrategy[Any]) -> dict[str, Any]:
    uses = [
        "sidecar",
        "sidecar:python:a_b.c:D.E",
        "sidecar:node:x/p.js",
        "sidecar:./p",
        "sidecar:kv-provider",
    ]
    use = draw(st.sampled_from(uses))
    listen = draw(st.sampled_from([
        {}, {"transport": "unix"}, {"transport": "stdio"}, {"transport": "http2"},
        {"transport": "tcp", "address": "tcp://[::1]:0"}, {"address": "ws://localhost:9/x"},
        {"transport": "nats", "address": "nats://a.example/b.c"}, {"address": "unix:x"},
    ]))  # fmt: skip
    more = table(
        {},
        **{
            "args": st.lists(texts, max_size=2),
            "env": st.dictionaries(env_names, text_or_secret, max_size=2),
            "isolate": st.booleans(),
            "trusted": st.booleans(),
            "start-timeout": durations,
            "stop-timeout": durations,
            "config": frees,
            "sources": sources,
            "bind": bind,
            "pack": package,
        },
    )
    command = draw(st.lists(filled, min_size=1, max_size=2)) if use == "sidecar" else None
    return {"use": use, **({"command": command} if command else {}), **listen, **draw(more)}


pair = {"certificate": st.just("c.pem"), "key": st.just("k.pem")}
tls = table({}, **{"ca": filled, "server-name": filled}) | table(pair, ca=filled)
far = st.sampled_from(["remote:tcp://a.example:7", "remote:quic://[::2]:7", "remote:nats://a.example/s"])
logins = (
    table({"user": filled, "password": secrets}) | table({"token": secrets}) | table({"credentials": secrets})
)
near = st.sampled_from(["remote:http2://127.0.0.1:7", "remote:ws://localhost:65535/x", "remote:unix:x"])
remotes = (
    table({"use": far, "tls": tls}, token=secrets, config=frees)
    | table({"use": near}, token=secrets, config=frees)
    | table({"use": st.just("remote:nats://[::1]/s.t"), "login": logins}, config=frees)
)


@st.composite
def directories(draw: st.DrawFn) -> list[dict[str, Any]]:
    directory = table({"host": filled, "guest": filled}, mode=st.sampled_from(["ro", "rw"]))
    return draw(st.lists(directory, max_size=3, unique_by=lambda item: item["guest"]))


LINE = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
places = st.sampled_from(["registry.example/acme", "[::1]:5000", "localhost:1/a/b"])
ids = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


@st.composite
def trust(draw: st.DrawFn) -> dict[str, Any]:
    keyless = table({"identity": filled, "issuer": filled, "root": filled})
    signer = st.just(LINE) | table({"file": filled}) | table({"id": ids}) | keyless
    signers = draw(st.dictionaries(names, signer, max_size=2))
    patterns = st.sampled_from(["registry.example/acme/*", "**", "*.example:*/**/x-*", "[::1]:5000/a"])
    artifacts = st.lists(patterns, min_size=1, max_size=2)
    rule = table({"artifacts": artifacts, "unsigned": st.just("allow")}, **{"max-age": durations})
    if signers:
        named = st.lists(st.sampled_from(list(signers)), min_size=1, max_size=2)
        rule |= table({"artifacts": artifacts, "signers": named}, threshold=st.just(1))
    more = table(
        rules=st.lists(rule, max_size=2),
        mirrors=st.dictionaries(places, places, max_size=2),
        revoked=st.lists(ids, max_size=2),
        local=st.sampled_from(["allow", "refuse"]),
    )
    return draw(more) | ({"signers": signers} if signers else {})


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    component_names = draw(st.lists(names, max_size=3, unique=True))
    # Only files: which component may provide for which is for the tests of references.
    uses = st.sampled_from(
        ["builtin:fsx", "builtin:core", "component:x.wasm", "component:a/b", SHIPPED, "oci:localhost/a/b:1"]
    )
    untrusted = table({"use": uses}, config=frees, trusted=st.booleans())
    python = table(
        {"use": st.just("python:a_b.c:D.E"), "trusted": st.just(True)},
        config=frees,
        sources=sources,
        bind=bind,
        pack=package,
    )
    text_or_secret = texts | secrets
    # Plain wRPC takes neither grants nor config: what it may be linked to is for the tests of placements.
    elsewhere = sidecars(text_or_secret) | remotes
    providers = draw(st.dictionaries(names, untrusted | python | elsewhere, max_size=3))
    builds = st.sampled_from(["npm run build", "a"]) | st.lists(texts, min_size=1, max_size=2)
    built = table({"build": builds}, sources=sources)
    component = table(
        {"path": filled},
        bind=bind,
        pack=about,
        run=st.sampled_from(["serve", "run"]),
        serve=table(addr=addresses),
        args=st.lists(text_or_secret, max_size=2),
        env=st.dictionaries(env_names, text_or_secret, max_size=2),
        imports=links(list(providers)),
        limits=limits,
        wasi=table(
            dirs=directories(),
            env=st.lists(env_names, max_size=2),
            net=st.lists(addresses, max_size=2),
            stdio=st.booleans(),
        ),
    )
    fetched = st.fixed_dictionaries({"path": st.sampled_from(["oci:a.b/c:1", "oci-layout:d/e:1"])})
    whole = component | st.builds(operator.or_, component, built | fetched)
    drawn: dict[str, Any] = draw(
        table(
            {"components": st.fixed_dictionaries(dict.fromkeys(component_names, whole))},
            workspace=table(name=names),
            providers=st.just(providers) if providers else st.nothing(),
            links=links(list(providers)),
            limits=limits,
        )
    ) | ({"providers": providers} if providers else {})
    if draw(st.booleans()):
        drawn["trust"] = draw(trust())
    for kind in ("components", "providers"):
        for name, member in drawn.get(kind, {}).items():
            if "bind" in member:  # no two may write one file
                files = {
                    k: f"{kind}/{name}/{v}"
                    for k, v in member["bind"].items()
                    if k in ("python", "typescript")
                }
                member["bind"] = {**member["bind"], **files}
    return drawn


def as_headers(document: dict[str, Any]) -> str:
    lines = []
    for top, tables in document.items():
        if top in ("components", "providers"):
            for name, values in tables.items():
                lines.append(f"[{top}.{key(name)}]")
                lines += [f"{key(k)} = {inline(v)}" for k, v in values.items()]
        else:
            lines.append(f"[{top}]")
            lines += [f"{key(k)} = {inline(v)}" for k, v in tables.items()]
    return "\n".join(lines)


def as_one_line_each(document: dict[str, Any]) -> str:
    return "\n".join(f"{key(k)} = {inline(v)}" for k, v in document.items())


def complaints(document: dict[str, Any]) -> list[str]:
    """What the shapes say, without what no schema can know: double guest paths, secrets in free values, licences."""
    report: list[Any] = []
    shapes = dataclasses.replace(MANIFEST, verify=None)  # nor the names that lead nowhere
    shapes.check(document, Cursor(Source(Path("/ws/loop.toml"), "loop.toml", ""), report))
    inside = re.compile(r"providers\.[^.]+\.config[.\[]")
    beyond = re.compile("is taken by|is no SPDX expression")
    return [str(item) for item in report if not beyond.search(item.message) and not inside.match(item.key)]


def document_of(manifest: Manifest) -> dict[str, Any]:
    """Writes a manifest back as the document that says the same."""
    return plain({
        "workspace": {"name": manifest.name},
        "components": {
            name: {
                k: component.artifact.reference if k == "path" and component.artifact else v
                for k, v in vars(component).items()
                if k not in ("name", "artifact") and v is not None and (v or k != "sources")
            }
            for name, component in manifest.components.items()
        },
        "providers": {
            name: {
                key.replace("_", "-"): value
                for key, value in vars(provider).items()
                if key not in ("name", "placement", "target", "path", "artifact")
                and value != getattr(Provider, key, None)
                and not (key == "transport" and provider.placement not in ("sidecar", "oci"))
                and value not in ((), {})
            }
            for name, provider in manifest.providers.items()
        },
        "links": manifest.links,
        "limits": manifest.limits,
        **({} if manifest.trust is None else {"trust": manifest.trust}),
    })  # fmt: skip


def plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case Link():
            budget = {} if value.budget is None else {"budget": value.budget}
            return {"provider": value.provider, "grant": plain(value.grant)} | budget
        case Secret():
            return {"env": value.env} if value.file is None else {"file": str(value.file)}
        case Limits():
            return value.given()
        case Tls() | Login() | Bind() | Pack():
            said = vars(value).items()
            return {k.replace("_", "-"): plain(v) for k, v in said if v is not None and v != ()}
        case Policy() | Rule() | KeyFile() | KeyId() | Keyless():
            names = {"path": "file", "max_age": "max-age"}
            said = vars(value).items()
            return {names.get(k, k): plain(v) for k, v in said if v is not None and v != ()}
        case PublicKey():
            return value.line
        case frozenset():
            return sorted(value)
        case Path():
            return str(value)
        case Wasi() | Dir() | Serve():
            return plain(vars(value))
        case _:
            return value


@given(documents())
def test_a_valid_document_survives_the_round_trip(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)
    parsed = loads(as_headers(document), "/ws/loop.toml")
    assert loads(as_one_line_each(document), "/ws/loop.toml") == parsed
    again = document_of(parsed)
    VALIDATOR.validate(again)
    assert loads(as_one_line_each(again), "/ws/loop.toml") == parsed


@given(limits, limits)
def test_limits_are_plain_numbers_and_a_component_has_its_own(
    everywhere: dict[str, Any], own: dict[str, Any]
) -> None:
    document = {"limits": everywhere, "components": {"a": {"path": "a", "limits": own}}}
    parsed = loads(as_one_line_each(document))
    units: dict[str, Any] = dict.fromkeys(("memory", "payload"), parse_size)
    units |= dict.fromkeys(("deadline", "cpu", "cancel_grace"), parse_duration)
    expected = {name: units.get(name, lambda n: n)(value) for name, value in (everywhere | own).items()}
    assert parsed.components["a"].limits.given() == expected


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place where a value stands: what holds it, and its key there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [spot for name in keys for spot in ((value, name), *spots(value[name]))]


# No float with an integer's value, which JSON Schema takes for one, and no final line end, which Python's "$"
# lets pass in the validator.
json_values = st.sampled_from([
    True, False, -1, 0, 1, 70_000, 2.5, -0.5, "", "x", "ro", "0s", "5ms", "1MiB", "a:1", "a:99999", "\0",
    "a b", "python:a:B", "python:a", SHIPPED, "builtin:x", "remote:x", "component:\0",
    "sidecar", "sidecar:x", "sidecar:y:z", "remote:tcp://a:1", "remote:unix:x", "tcp", "tcp://a:0",
    "10s", [], [1], ["x"], {},
    {"env": "X"}, {"file": "\0"}, {"env": "a", "file": "b"}, {"env": "="}, {"provider": "x"}, {"path": "x"},
    {"grant": {}, "provider": "p"}, {"use": "builtin:fsx"}, {"roots": {"a b": {"path": "x"}}},
    {"roots": {"a": {"path": "x", "mode": "rw"}}}, "a.py", ".py", "a/.py", "a.d.ts", {"python": "a.py"},
    "oci:a.b/c:1", "oci:a.b/c", "oci:localhost/a/b@sha256:" + "0" * 64, "oci:A/b:1", "oci-layout:d:1", "oci-layout:d",
    LINE, "0" * 64, "registry.example/*", {"identity": "a", "issuer": "b", "root": "c"},
    {"artifacts": ["**"], "unsigned": "allow"},
])  # fmt: skip
new_keys = st.sampled_from([
    "x", "", "a b", "path", "oci", "env", "grant", "loop:fsx", "a:b/c", "A=", "trusted", "mode",
    "log", "level", "max-read", "max-entries", "command", "args", "transport", "address", "handshake", "isolate",
    "tls", "token", "ca", "key", "budget", "start-timeout", "login", "user", "password", "credentials",
    "build", "use",
    "bind", "python", "typescript", "world", "interfaces", "file", "id", "identity", "root", "signers", "unsigned",
    "threshold", "max-age", "trust", "rules",
    "pack", "license", "targets", "program", "build", "exports", "files",
])  # fmt: skip


@given(documents(), st.data())
def test_the_schema_says_what_the_checks_say(document: dict[str, Any], data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 2))):
        holder, last = data.draw(st.sampled_from(spots({None: document})))
        match data.draw(st.sampled_from(["replace", "remove", "add"])):
            case "remove" if last is not None:
                del holder[last]
            case "add" if isinstance(holder[last], dict):
                holder[last][data.draw(new_keys)] = copy.deepcopy(data.draw(json_values))
            case _ if last is not None:
                holder[last] = copy.deepcopy(data.draw(json_values))
    assert bool(complaints(document)) != VALIDATOR.is_valid(document), (complaints(document), document)


@given(
    st.text() | st.text("[]{}=.\"'\n ab:#\\"), st.sampled_from(["", "[components.a]\n", "[providers]\na = "])
)
def test_any_text_is_read_or_refused(text: str, before: str) -> None:
    refused_or_read(before + text)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    refused_or_read(data)


toml_values = st.recursive(
    free | st.dates() | st.datetimes() | st.times() | st.floats() | st.integers(-(10**30), 10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(documents(), st.data())
def test_any_toml_is_read_or_refused(document: dict[str, Any], data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        holder, last = data.draw(st.sampled_from(spots({None: document})))
        if last is not None:
            holder[last] = copy.deepcopy(data.draw(toml_values))
    refused_or_read("\n".join(f"{key(name)} = {inline(value)}" for name, value in document.items()))


def refused_or_read(text: str | bytes) -> None:
    try:
        loads(text, "/ws/loop.toml")
    except ManifestError as error:
        refused = error
    else:
        return
    assert str(refused).split("\n") == [str(problem) for problem in refused.problems] != []


def test_the_shipped_schema_is_current_and_valid() -> None:
    shipped = Path(loop_kit.__file__).parent / "schema" / "loop.schema.json"
    assert shipped.read_text("utf-8") == schema_module.text(), (
        "run python -m loop_kit.manifest.schema --write"
    )
    jsonschema.Draft202012Validator.check_schema(json.loads(shipped.read_text("utf-8")))


def test_the_schema_describes_every_key() -> None:
    for name, definition in SCHEMA["$defs"].items():
        assert definition["description"], name
        for field, shape in definition["properties"].items():
            assert shape["description"], f"{name}.{field}"


def test_the_docs_name_every_key() -> None:
    docs = (ROOT / "docs" / "manifest.md").read_text("utf-8")
    for name, definition in SCHEMA["$defs"].items():
        for field in definition["properties"]:
            assert re.search(rf"[`.\[]{field}[`\].]|\b{field} =", docs), f"{name}.{field}"


@pytest.mark.parametrize("sample", [{}, {"components": {}}, {"providers": {"p": {"use": "builtin:fsx"}}}])
def test_samples_that_the_schema_takes(sample: dict[str, Any]) -> None:
    VALIDATOR.validate(sample)
    assert complaints(sample) == []


@pytest.mark.parametrize(
    "sample",
    [
        {"x": 1},
        {"components": {"a": {}}},
        {"components": {"a": {"oci": "x"}}},
        {"providers": {"p": {"use": "python:a:B"}}},
        {"providers": {"p": {"use": "sidecar:pyhton:x:Y"}}},
        {"providers": {"p": {"use": "sidecar"}}},
        {"providers": {"p": {"use": "sidecar:x", "command": ["x"]}}},
        {"providers": {"p": {"use": "sidecar:x", "token": {"env": "X"}}}},
        {"providers": {"p": {"use": "builtin:fsx", "handshake": True}}},
        {"providers": {"p": {"use": "remote:tcp://a:0"}}},
        {"providers": {"p": {"use": "remote:tcp://127.0.0.1:1", "token": "x"}}},
        {"providers": {"p": {"use": "remote:tcp://127.0.0.1:1", "tls": {"key": "x"}}}},
        {"providers": {"p": {"use": "remote:nats://127.0.0.1/a", "login": {"user": "x"}}}},
        {"providers": {"p": {"use": "remote:nats://127.0.0.1/a", "login": {"token": "x"}}}},
        {"links": {"loop:fsx": {"provider": "p", "grant": {"root": {}}}}},
        {"providers": {"p": {"use": "builtin:fsx", "bind": {"python": "a.py"}}}},
        {"components": {"a": {"path": "a", "bind": {"wit": "wit"}}}},
        {"components": {"a": {"path": "a", "bind": {"python": "a.d.ts"}}}},
        {"components": {"a": {"path": "a", "bind": {"typescript": "a.ts"}}}},
        {"components": {"a": {"path": "a", "bind": {"python": "a.py", "world": "w", "interfaces": ["x"]}}}},
    ],
)
def test_samples_that_the_schema_refuses(sample: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(sample)
    assert complaints(sample) != []
