"""What a manifest says, as frozen dataclasses. Paths are absolute, sizes bytes, durations seconds."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loop_kit.errors import ManifestError, Problem
from loop_kit.manifest._match import Match, best_match
from loop_kit.manifest._scan import Keys, Position
from loop_kit.manifest._source import Source, dotted
from loop_kit.manifest._toml import string
from loop_kit.trust.policy import Policy

if TYPE_CHECKING:
    from loop_kit.lock import Entry
    from loop_kit.pkg._model import Asked

__all__ = [
    "Artifact",
    "Bind",
    "Component",
    "Dir",
    "Limits",
    "Link",
    "Login",
    "Manifest",
    "Pack",
    "Placement",
    "Provider",
    "Resolver",
    "Secret",
    "Serve",
    "Task",
    "Tls",
    "Wasi",
]

Placement = Literal["builtin", "python", "component", "sidecar", "remote", "oci"]

TRANSPORTS = ("stdio", "unix", "shm", "pipe", "tcp", "quic", "http2", "ws", "nats")
"""What a sidecar can be reached by."""

SHIPPED = "loop_kit.capabilities."
"""How the modules of Python providers that ship with loop-kit begin."""


@dataclass(frozen=True)
class Secret:
    """A value kept outside the manifest; `repr` and errors never show it.

    Attributes:
        env: Environment variable of the host that holds it, or None.
        file: File that holds it, or None. One final line end is not part of it.
    """

    env: str | None = None
    file: Path | None = None
    _place: tuple[Source, Keys] | None = field(default=None, repr=False, compare=False)

    def reveal(self) -> str:
        """Returns the value, read now.

        Raises:
            ManifestError: The variable is not set, or the file cannot be read as UTF-8.
        """
        if self.file is None:
            value = os.environ.get(self.env or "")
            if value is None:
                raise self._error(f"the environment variable {self.env} is not set")
            return value
        try:
            return self.file.read_text("utf-8").removesuffix("\n")
        except OSError as error:
            raise self._error(f"cannot read the file {self.file}: {error.strerror}") from None
        except UnicodeDecodeError:
            # The original error quotes the bytes.
            raise self._error(f"the file {self.file} is not UTF-8") from None

    def _error(self, message: str) -> ManifestError:
        if self._place is None:
            return ManifestError([Problem("loop.toml", None, None, "", message)])
        source, keys = self._place
        return ManifestError([source.problem(keys, message, at="value")])


@dataclass(frozen=True)
class Artifact:
    """What a component or provider is fetched as.

    Attributes:
        reference: Its name as written: `oci:REGISTRY/REPOSITORY:TAG` or `oci-layout:FOLDER:TAG`, with a digest or not.
        entry: What `loop.lock` says that it is, or None.
        stale: The other name that `loop.lock` has an entry of, or None.
    """

    reference: str
    entry: Entry | None = None
    stale: str | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of a component, by the names of `loop_kit.Limits`; None leaves the host's default.

    Attributes:
        memory: Bytes of linear memory of one instance.
        table_elements: Table elements of one instance.
        deadline: Seconds of wall-clock time of one call.
        cpu: Seconds of CPU time of one call.
        fuel: Instructions of one call.
        concurrent_calls: Calls at once.
        payload: Bytes of host memory that the values of one transfer from the guest may take.
        instances: `"per-call"`, `"shared"`, or how many instances to pool.
        cancel_grace: Seconds that a cancelled call on a shared instance may run on.
    """

    memory: int | None = None
    table_elements: int | None = None
    deadline: float | None = None
    cpu: float | None = None
    fuel: int | None = None
    concurrent_calls: int | None = None
    payload: int | None = None
    instances: Literal["per-call", "shared"] | int | None = None
    cancel_grace: float | None = None

    def given(self) -> dict[str, Any]:
        """Returns only the limits that the manifest sets, as arguments for `loop_kit.Limits`."""
        return {key: value for key, value in vars(self).items() if value is not None}

    def over(self, defaults: Limits) -> Limits:
        """Returns these limits, with `defaults` where they say nothing."""
        return Limits(**(defaults.given() | self.given()))


@dataclass(frozen=True)
class Link:
    """What an import key is linked to.

    Attributes:
        name: The key as written: `loop:fsx/files@0.1.0`, `loop:fsx/files` or `loop:fsx`.
        provider: Name of the provider.
        grant: What the provider may touch for this component; the capability defines its keys.
        keys: Where the link stands in the manifest.
        budget: Seconds that a call should take at most, or None.
        reason: Why it was chosen for an import; "" unless it comes from `Manifest.link_for`.
    """

    name: str
    provider: str
    grant: Mapping[str, Any] = field(default_factory=dict)
    keys: Keys = ()
    budget: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Tls:
    """How a connection is secured.

    Attributes:
        ca: Authorities to trust, or None for those that the system trusts.
        certificate: This host's own certificate, or None.
        key: Its private key, or None.
        server_name: The name that the provider's certificate must have, or None for the address's.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None


@dataclass(frozen=True)
class Login:
    """Whom to be at a NATS server: a user with a password, or who has a token or credentials.

    Attributes:
        user: The user's name, or None.
        password: Its password, or None.
        token: The token, or None.
        credentials: What a file of credentials holds, or one of an NKey's seed, or None.
    """

    user: str | None = None
    password: str | Secret | None = field(default=None, repr=False)
    token: str | Secret | None = field(default=None, repr=False)
    credentials: str | Secret | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Bind:
    """Types of WIT for a member's code, which `loop dev` and `loop bind` keep right.

    Attributes:
        wit: File or folder of WIT, or a component; None: the folder `wit` of the member's code.
        python: The Python module to write, or None.
        typescript: The declarations to write, or None.
        world: The world whose imports and exports are wanted, or None for all of the package.
        interfaces: The interfaces that are wanted; empty: all.
    """

    wit: Path | None = None
    python: Path | None = None
    typescript: Path | None = None
    world: str | None = None
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pack:
    """What the package of a component or a provider says and holds, beyond what is found out.

    Attributes:
        version: Its version, or None.
        description: What it is, in a line, or None.
        license: An SPDX expression, or None.
        source: Where its source code is, or None.
        grants: What must be granted for it to work, by import.
        files: Patterns of files that belong to it, besides its sources.
        wit: File or folder of the WIT that it serves; None: the folder `wit` of its code.
        exports: Interfaces that it serves; empty: all of the WIT that have functions.
        imports: Interfaces that it calls back.
        transports: What it can be reached by; empty: as its SDK can.
        requirements: A Python provider's dependencies with their digests; None: requirements.txt of its folder.
        wheel: The wheel that holds a Python provider, or None.
        build: Makes the program, with {target}, {os} and {arch} for what it is for; None if it is there already.
        program: The program, in the same way; None: the one that `use` names.
        targets: What it is built for, as compilers name it; empty: this machine.
    """

    version: str | None = None
    description: str | None = None
    license: str | None = None
    source: str | None = None
    grants: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    wit: Path | None = None
    exports: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    requirements: Path | None = None
    wheel: Path | None = None
    build: str | tuple[str, ...] | None = None
    program: str | None = None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provider:
    """Whatever exports a capability.

    Attributes:
        name: Its name in the manifest.
        use: What it is, as written: `builtin:fsx`, `python:module:Class`, `component:NAME`, `sidecar:PROGRAM`,
            `remote:ADDRESS`, or an artifact, `oci:REFERENCE`.
        placement: Where it runs: `builtin`, `python`, `component`, `sidecar` or `remote`; `oci` for an artifact of which
            `loop.lock` does not say what it is.
        target: `use` after the placement: a builtin's name, `module:Class`, a component's name, a program, an
            address.
        path: The file that it names, if it does: a `.wasm` file that is not a component of this workspace (its own, or
            one that ships with loop-kit), a sidecar's script or program.
        config: Passed to the provider when it starts; secrets in it are `Secret`s, see `reveal`.
        trusted: The manifest's own statement that this code may run inside the host.
        command: Program and arguments of a sidecar whose `use` names none.
        args: More arguments of a sidecar.
        env: Environment variables of a sidecar.
        transport: What it is reached by: one of `TRANSPORTS`, "" in the host's process.
        address: Where a sidecar listens, if not at its transport's default.
        handshake: Whether it is a peer of loop-kit's, and not of plain wRPC.
        isolate: Whether each link has a sidecar of its own.
        start_timeout: Seconds until a sidecar must be ready.
        stop_timeout: Seconds until a sidecar that is to end is killed.
        tls: How the connection to a remote provider is secured, or None.
        token: What a remote provider asks for, or None.
        login: Whom to be at the NATS server between, on both sides of it where the provider is a sidecar; or None.
        sources: Patterns of the files that it is made of, for `loop dev`; empty: those that it imports.
        bind: Types of WIT for its code, or None.
        artifact: What it is fetched as, or None.
        pack: What its package says and holds, or None.
        folder: Where it runs and its modules are, if not in the workspace's folder: that of a package.
        paths: Folders that a Python provider's dependencies are in: those of its package.
    """

    name: str
    use: str
    placement: Placement
    target: str
    path: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    trusted: bool = False
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str | Secret] = field(default_factory=dict)
    transport: str = ""
    address: str | None = None
    handshake: bool = True
    isolate: bool = False
    start_timeout: float = 10.0
    stop_timeout: float = 5.0
    tls: Tls | None = None
    token: Secret | None = None
    login: Login | None = None
    sources: tuple[str, ...] = ()
    bind: Bind | None = None
    artifact: Artifact | None = None
    pack: Pack | None = None
    folder: Path | None = None
    paths: tuple[Path, ...] = ()

    @property
    def sandboxed(self) -> bool:
        """Whether it runs as a component. Anything else here has all the rights of the host process."""
        return self.placement == "component"

    @property
    def inside(self) -> bool:
        """Whether it runs in the host's process."""
        return self.placement not in ("sidecar", "remote", "oci")

    def argv(self) -> tuple[str, ...]:
        """What a sidecar runs: Python providers with this interpreter, Node's with the `node` that PATH has."""
        kind, colon, rest = self.target.partition(":")
        if self.artifact is not None:
            program = self.command or (self.use,)
        elif not self.target:
            program = self.command
        elif colon and kind in ("builtin", "python"):
            served = self.target if kind == "builtin" else rest
            program = (sys.executable, "-m", "loop_kit.serve", served)
        elif colon:
            program = (kind, str(self.path))
        else:
            program = (str(self.path or self.target),)
        return (*program, *self.args)

    @property
    def module(self) -> str | None:
        """The Python module that it is a class of, here or in a process of its own; None where it is no Python."""
        kind, colon, rest = self.target.partition(":")
        if self.placement == "python":
            return kind
        return rest.partition(":")[0] if self.placement == "sidecar" and colon and kind == "python" else None

    @property
    def shipped(self) -> bool:
        """Whether it is loop-kit's own code, which needs no trust of its own."""
        return self.placement == "builtin" or (self.placement == "python" and self.target.startswith(SHIPPED))

    @property
    def shipped_aside(self) -> bool:
        """Whether it is a sidecar with loop-kit's own code in it."""
        return self.placement == "sidecar" and self.target.startswith(("builtin:", f"python:{SHIPPED}"))


@dataclass(frozen=True)
class Dir:
    """A directory of the host that a component sees through WASI."""

    host: Path
    guest: str
    mode: Literal["ro", "rw"] = "ro"


@dataclass(frozen=True)
class Wasi:
    """What WASI shows a component; nothing unless named.

    Attributes:
        dirs: Directories.
        env: Names of the host's environment variables to pass on, besides the component's own `env`.
        net: `HOST:PORT` pairs it may connect to.
        stdio: Whether it has the host's standard streams.
    """

    dirs: tuple[Dir, ...] = ()
    env: tuple[str, ...] = ()
    net: tuple[str, ...] = ()
    stdio: bool = False


@dataclass(frozen=True)
class Serve:
    """How a component is served.

    Attributes:
        addr: `HOST:PORT`; port 0 takes any free one.
        live: Whether its pages take up changes by themselves in `loop dev`.
    """

    addr: str = "127.0.0.1:8080"
    live: bool = True


@dataclass(frozen=True)
class Component:
    """A component of the workspace.

    Attributes:
        name: Its name in the manifest.
        path: The `.wasm` file; the output of `build` where there is one, or in the store.
        build: How to make it: a string for the shell, or an argument list; None if it is there already.
        sources: Patterns of the files that `build` reads; empty: all of the folder that it works in.
        dev: The script by which `loop dev` gives its code to an engine instead of building it anew.
        assets: Patterns of the files that its pages show; None: the folders that it may read and not write.
        bind: Types of WIT for its code, or None.
        run: What `loop run` of the workspace does with it; None if nothing.
        serve: How it is served.
        watch: Buckets whose changes its `wasi:keyvalue/watcher` is called for.
        args: Arguments of the guest, without the program's name.
        env: Environment variables of the guest.
        imports: Links by import key, before the workspace's.
        limits: Its limits, the workspace's defaults filled in.
        wasi: What WASI shows it.
        artifact: What it is fetched as, or None.
        pack: What its package says, or None.
    """

    name: str
    path: Path
    build: str | tuple[str, ...] | None = None
    sources: tuple[str, ...] = ()
    dev: Path | None = None
    assets: tuple[str, ...] | None = None
    bind: Bind | None = None
    run: Literal["serve", "run"] | None = None
    serve: Serve = field(default_factory=Serve)
    watch: tuple[str, ...] = ()
    args: tuple[str | Secret, ...] = ()
    env: Mapping[str, str | Secret] = field(default_factory=dict)
    imports: Mapping[str, Link] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    wasi: Wasi = field(default_factory=Wasi)
    artifact: Artifact | None = None
    pack: Pack | None = None


@dataclass(frozen=True)
class Task:
    """Something to be run, what it reads and what it writes.

    Attributes:
        name: Its name in the manifest.
        run: The command, a string for `sh` or an argument list; None for one that only has others come before.
        inputs: Patterns of the files that it reads; None: all of the folder that git does not ignore.
        outputs: Patterns of the files that it writes.
        deps: What comes before it: `NAME`, `^NAME` or `MEMBER:NAME`.
        env: Environment variables that it sees, and that count.
        tool: Programs that count by what they are.
        cache: Whether its result is kept.
        sandbox: Whether it is kept from reading files of the workspace that it does not name.
    """

    name: str
    run: str | tuple[str, ...] | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] = ()
    deps: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    tool: str | tuple[str, ...] = ()
    cache: bool = True
    sandbox: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """A source of packages.

    Attributes:
        kind: One that loop-kit knows; None: one of the user's own.
        path: The file of a component, or None.
        provider: The name of a provider, or None.
        base: Where it is; None: as its client is configured.
        config: What it is told.
        allow: Servers that it may ask.
        downloads: Servers that its files are fetched from besides.
    """

    kind: str | None
    path: Path | None = None
    provider: str | None = None
    base: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    allow: Sequence[str] = ()
    downloads: Sequence[str] = ()


@dataclass(frozen=True)
class Manifest:
    """A whole `loop.toml`.

    Attributes:
        source: The text it was read from.
        name: The workspace's name; its folder's unless given.
        components: Components by name.
        providers: Providers by name.
        links: Links that every component has unless its own `imports` match.
        limits: Limits that every component has unless it sets its own.
        commands: The components that make commands, by the commands' names.
        trust: Who may sign what comes from registries; None: nobody needs to.
        tasks: Tasks by name.
        members: Patterns of the folders of members, from this one's.
        member_tasks: Tasks of every member that has none of the name, by name.
        depends: Names of the members that this one depends on.
        registry: Where its packages are put that no registry is named for, or None.
        results: The repository in which results of tasks are kept for others too, or None.
        packages: The tools that it asks for, by what it calls them.
        resolvers: Where these may come from, besides what loop-kit knows.
        trust_source: Where `trust` stands, if that is the user's own policy and not this file.
    """

    source: Source = field(repr=False, compare=False)
    name: str
    components: Mapping[str, Component] = field(default_factory=dict)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    commands: Mapping[str, str] = field(default_factory=dict)
    trust: Policy | None = None
    tasks: Mapping[str, Task] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    member_tasks: Mapping[str, Task] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    registry: str | None = None
    results: str | None = None
    packages: Mapping[str, Asked] = field(default_factory=dict)
    resolvers: Mapping[str, Resolver] = field(default_factory=dict)
    trust_source: Source | None = field(default=None, repr=False, compare=False)

    @property
    def path(self) -> Path:
        """The `loop.toml` itself."""
        return self.source.path

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.source.path.parent

    def link_for(self, component: str | None, import_name: str) -> Link | None:
        """Returns the link of one import, with its `reason`; None if no key matches.

        `component` is None for a component that has no table of its own: a provider's `component:file.wasm`.

        A component's own `imports` come before `[links]`. Within either, a key matches by full name
        (`loop:fsx/files@0.1.0`), by interface or versioned package (`loop:fsx/files`,
        `loop:fsx@0.1.0`), or by package (`loop:fsx`), the most specific first.

        Raises:
            KeyError: There is no such component.
            ManifestError: Two keys match and neither is more specific, or `[links]` would link a component to
                itself.
        """
        own = {} if component is None else self.components[component].imports
        for links, where in ((own, f"components.{component}.imports"), (self.links, "links")):
            match best_match(import_name, links):
                case Match(name, how):
                    link = links[name]
                    self._refuse_self(link, component, import_name)
                    reason = f"{string(name)} in [{where}] matches {how}"
                    return dataclasses.replace(link, reason=reason)
                case [first, second]:
                    message = (
                        f"{string(first)} and {string(second)} both match the import {string(import_name)}"
                    )
                    hint = f"add the full name {string(import_name)}"
                    raise self.error(links[first].keys, message, hint)
        return None

    def position(self, keys: Keys) -> Position | None:
        """Returns the line and column of a key path such as `link.keys`, or of what is around it."""
        return self.source.position(keys)

    def error(self, keys: Keys, message: str, hint: str | None = None) -> ManifestError:
        """Builds an error that points at a key path, for what only shows when components are loaded."""
        return ManifestError([self.source.problem(keys, message, hint)])

    def _refuse_self(self, link: Link, component: str | None, import_name: str) -> None:
        provider = self.providers[link.provider]
        is_component = provider.placement == "component" and provider.path is None
        if component is not None and is_component and provider.target == component:
            message = f"links {component} to itself for its import {string(import_name)}"
            hint = f"give it another provider in {dotted(('components', component, 'imports', link.name))}"
            raise self.error(link.keys, message, hint)
