"""`loop.toml`, declared once: these tables check it, parse it, and make its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from loop_kit.dev._registry import NAME as COMMAND_NAME
from loop_kit.manifest import model
from loop_kit.manifest._artifact import CODE, component, is_artifact
from loop_kit.manifest._bind import BIND, check_bindings
from loop_kit.manifest._grants import GRANTS
from loop_kit.manifest._match import IMPORT_PATTERN
from loop_kit.manifest._pack import COMPONENT_PACK
from loop_kit.manifest._packages import PACKAGES, RESOLVERS, check_resolvers
from loop_kit.manifest._placed import check_placements
from loop_kit.manifest._provider import PROVIDER
from loop_kit.manifest._references import check_references
from loop_kit.manifest._secrets import SECRET
from loop_kit.manifest._shape import (
    Bool,
    Choice,
    Cursor,
    Duration,
    Either,
    Field,
    Free,
    Integer,
    ListOf,
    MapOf,
    Size,
    Table,
    Text,
)
from loop_kit.manifest._task import DEPENDS, MEMBERS, task_table, tasks
from loop_kit.manifest._text import ADDRESS, ENV_NAME, FILE, GUEST_PATH, NAME, NET, SOURCE, TEXT
from loop_kit.manifest._toml import string
from loop_kit.manifest._trust import TRUST, check_trust
from loop_kit.trust.statement import NAME_PATTERN

__all__ = ["MANIFEST"]

_TEXT_OR_SECRET = Either((TEXT, SECRET))

LIMITS = Table(
    "limits",
    "Limits; what is not set keeps the host's default.",
    model.Limits,
    {
        "memory": Field(Size(), "Linear memory of one instance, all its memories together."),
        "table_elements": Field(Integer(1), "Table elements of one instance."),
        "deadline": Field(Duration(), "Wall-clock time of one call."),
        "cpu": Field(Duration(), "CPU time of one call."),
        "fuel": Field(Integer(1), "Instructions of one call, for runs that must be deterministic."),
        "concurrent_calls": Field(Integer(1), "Calls at once; one more is refused."),
        "payload": Field(Size(), "Host memory that the values of one transfer from the guest may take."),
        "instances": Field(
            Either((Choice(("per-call", "shared")), Integer(1, 100_000))),
            'A fresh instance for each call ("per-call"), one for all ("shared"), or a pool of so many.',
        ),
        "cancel_grace": Field(
            Duration(),
            "How long a cancelled call may run on before its shared instance is retired.",
        ),
    },
)


def _link_table(title: str, grant: Table | MapOf) -> Table:
    return Table(
        title,
        "What an import is linked to.",
        dict,
        {
            "provider": Field(TEXT, "Name of a provider in [providers].", required=True),
            "grant": Field(grant, "What the provider may touch on behalf of the component."),
            "budget": Field(
                Duration(),
                "How long a call should take at most; those that take longer are shown, not ended.",
            ),
        },
    )


class _Links(MapOf):
    """Keeps each link's key and place with it."""

    def read(self, value: dict[str, object], at: Cursor) -> dict[str, Any]:
        return {
            name: parsed and model.Link(name, keys=at.child(name).keys, **parsed)
            for name, parsed in super().read(value, at).items()
        }


LINKS = _Links(
    _link_table("link", MapOf(Free())),
    special={
        f"^{package}([/@]|$)": _link_table(f"link-{package.replace(':', '-')}", grant)
        for package, grant in GRANTS.items()
    },
    key_pattern=IMPORT_PATTERN,
    key_expects='an import such as "loop:fsx", "loop:fsx/files" or "loop:fsx/files@0.1.0"',
)


def _distinct_guests(dirs: Sequence[model.Dir], at: Cursor) -> None:
    seen: set[str] = set()
    for index, item in enumerate(dirs):
        if item.guest in seen:
            message = f"the guest path {string(item.guest)} is taken by another directory"
            at.child(index).problem(message)
        seen.add(item.guest)


WASI = Table(
    "wasi",
    "What WASI shows the component. Nothing is visible unless it is named here.",
    model.Wasi,
    {
        "dirs": Field(
            ListOf(
                Table(
                    "directory",
                    "A directory of the host that the component sees.",
                    model.Dir,
                    {
                        "host": Field(FILE, "The directory on the host.", required=True),
                        "guest": Field(GUEST_PATH, "Its path in the component.", required=True),
                        "mode": Field(Choice(("ro", "rw")), "Read-only, or read and write.", default="ro"),
                    },
                ),
                verify=_distinct_guests,
            ),
            "Directories the component sees.",
        ),
        "env": Field(ListOf(ENV_NAME), "Names of the host's environment variables to pass on."),
        "net": Field(ListOf(NET), "Addresses the component may connect to."),
        "stdio": Field(Bool(), "Whether the component has the host's standard streams.", default=False),
    },
)

SERVE = Table(
    "serve",
    "How the component is served.",
    model.Serve,
    {
        "addr": Field(
            ADDRESS, "Address to listen on; port 0 takes any free one.", default=model.Serve().addr
        ),
        "live": Field(Bool(), "Whether its pages take up changes by themselves in `loop dev`.", default=True),
    },
)


def _built(raw: Mapping[str, Any], at: Cursor) -> None:
    path = raw.get("path")
    if "build" in raw:
        if isinstance(path, str) and is_artifact(path):
            at.problem(
                '"path" is an artifact, which nothing here makes', "remove it", at="key", child="build"
            )
        return
    if "sources" in raw:
        at.problem('"sources" are what "build" reads, and there is none', "add it", at="key", child="sources")
    if "dev" in raw:
        hint = "add it: all but `loop dev` build the component"
        at.problem('"dev" stands in for "build", and there is none', hint, at="key", child="dev")


def _tools(build: str, at: Cursor) -> str:
    # which there are is known once all packages are, those of the workspace above too
    for name in re.findall(r"\{tool:([^{}]*)\}", build):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
            at.problem(f"{string(name)} is no name of a tool", "such as {tool:esbuild}")
    return build


_COMMAND = Text("a command", r"^\s*[^\u0000\s][^\u0000]*$", _tools)
_WORD = Text(parse=_tools)


def _whole(words: Sequence[str], at: Cursor) -> None:
    for index, word in enumerate(words):
        if "{tool:" in word and not re.fullmatch(r"\{tool:[^{}]*\}", word):
            at.child(index).problem(
                "in a list, a tool is an argument of its own", "or write the build as one string"
            )


TASK = task_table(_WORD, _COMMAND, _whole)

COMPONENT = Table(
    "component",
    "A component of the workspace.",
    component,
    {
        "path": Field(
            CODE,
            "The .wasm file; where there is a build, its output. Or an artifact: `oci:REGISTRY/REPOSITORY:TAG`.",
            required=True,
        ),
        "build": Field(
            Either((_COMMAND, ListOf(_WORD, verify=_whole, minimum=1))),
            "Command that makes the component, run in the manifest's folder. A string goes to the shell. "
            "`{tool:NAME}` is a program of `packages`, or one of componentize-qjs, componentize-py and esbuild.",
        ),
        "sources": Field(
            ListOf(SOURCE, minimum=1),
            "Patterns of the files that `build` reads; what is not among them has nothing built by `loop dev`.",
        ),
        "dev": Field(
            FILE,
            "A script in JavaScript by which `loop dev` gives the code to a prebuilt engine, which is faster.",
        ),
        "assets": Field(
            ListOf(SOURCE),
            "Patterns of the files that its pages show: `loop dev` tells browsers when they change.",
        ),
        "bind": Field(BIND, BIND.doc),
        "run": Field(Choice(("serve", "run")), "What `loop run` of the workspace does with the component."),
        "serve": Field(SERVE, SERVE.doc),
        "watch": Field(
            ListOf(TEXT),
            "Buckets whose changes `wasi:keyvalue/watcher`, which the component exports, is called for.",
        ),
        "args": Field(ListOf(_TEXT_OR_SECRET), "Arguments of the guest, without the program's name."),
        "env": Field(
            MapOf(_TEXT_OR_SECRET, key_pattern=ENV_NAME.pattern, key_expects=ENV_NAME.expects),
            "Environment of the guest.",
        ),
        "imports": Field(LINKS, "Links of this component; they come before [links]."),
        "limits": Field(LIMITS, "Limits of this component; they come before [limits]."),
        "wasi": Field(WASI, WASI.doc),
        "pack": Field(COMPONENT_PACK, COMPONENT_PACK.doc),
    },
    named=True,
    verify=_built,
    also={
        "dependentRequired": {"sources": ["build"], "dev": ["build"]},
        "if": {
            "properties": {"path": {"type": "string", "pattern": "^(oci|oci-layout):"}},
            "required": ["path"],
        },
        "then": {"properties": {"build": False}},
    },
)


def _named(table: Table) -> MapOf:
    return MapOf(table, key_pattern=NAME.pattern, key_expects=NAME.expects)


def _check(raw: Mapping[str, Any], at: Cursor) -> None:
    check_references(raw, at)
    check_placements(raw, at)
    check_bindings(raw, at)
    check_trust(raw, at)
    check_resolvers(raw, at)


MANIFEST = Table(
    "manifest",
    "A loop-kit workspace: its components, what provides their imports, and what each may touch.",
    dict,
    {
        "workspace": Field(
            Table(
                "workspace",
                "The workspace as a whole.",
                dict,
                {
                    "name": Field(NAME, "Its name; the folder's if absent."),
                    "registry": Field(
                        Text(
                            'a registry such as "registry.example/acme"',
                            NAME_PATTERN,
                            examples=("registry.example/acme",),
                        ),
                        "Where its packages are put that no registry is named for.",
                    ),
                    "members": MEMBERS,
                    "depends": DEPENDS,
                    "tasks": Field(
                        tasks(TASK, settings=False), "Tasks of every member that has none of the name."
                    ),
                },
            ),
            "The workspace as a whole.",
        ),
        "components": Field(_named(COMPONENT), "The components, by name."),
        "providers": Field(_named(PROVIDER), "The providers, by name."),
        "links": Field(LINKS, "Links of every component whose own `imports` do not match."),
        "limits": Field(LIMITS, "Limits of every component that does not set its own."),
        "trust": Field(TRUST, TRUST.doc),
        "tasks": Field(
            tasks(TASK, settings=True),
            "Tasks for `loop task`, by name; `cache` is a repository in which their results are kept for others too.",
        ),
        "commands": Field(
            MapOf(
                TEXT,
                key_pattern=f"^{COMMAND_NAME}$",
                key_expects="a name of lowercase letters, digits and -",
            ),
            "Commands for `loop x` and the page, by name: each the name of the component that makes it.",
        ),
        "packages": Field(PACKAGES, "Tools that the workspace needs, by what it calls them: `loop pkg`."),
        "resolvers": Field(RESOLVERS, "Where packages come from, by the word before the first colon."),
    },
    verify=_check,
)
