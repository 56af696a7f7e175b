"""`loop serve`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from loop_kit.cli._locked import CODE, fetched, lock_options, trust_option
from loop_kit.cli._output import dim, examples, strong
from loop_kit.cli._serving import serve_until_stopped

if TYPE_CHECKING:
    from loop_kit.manifest import Tls


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OF_COMPONENTS = ("on", "env", "dirs", "net", "locked", "offline", "policy")
_REQUESTS = 10_000
_WHOLE = 1 << 20
"""Bytes of a file that is read at once."""


@click.command(
    epilog=examples(
        ("loop serve app.wasm", "at 127.0.0.1:8080, a fresh instance for each request"),
        ("loop serve app.wasm --addr 127.0.0.1:0", "at any free port, which is printed"),
        ("loop serve build/site", "the files of a folder, to read"),
        ("loop serve oci:registry.example/acme/site:1.2", "a component of a registry"),
        ("loop serve app.wasm --instances 16", "reuse up to 16 instances"),
        (
            "loop serve cache.wasm --on unix:/run/cache.sock",
            "its own interfaces, as a provider of other hosts",
        ),
    )
)
@click.argument("component", metavar="COMPONENT|FOLDER", type=CODE)
@click.option("--addr", default="127.0.0.1:8080", show_default=True, help="Where to listen for HTTP.")
@click.option(
    "--on",
    metavar="ADDRESS",
    help="Serve its interfaces instead: unix:PATH, nats://SERVER/SUBJECT, or tcp:, quic:, http2: or ws://HOST:PORT.",
)
@click.option(
    "--interface", "interfaces", multiple=True, metavar="NAME", help="With --on: that interface alone."
)
@click.option(
    "--token", envvar="LOOP_PROVIDER_TOKEN", help="With --on: what callers must show; $LOOP_PROVIDER_TOKEN."
)
@click.option("--tls-certificate", type=_FILE, help="With --on: this side's certificate, PEM.")
@click.option("--tls-key", type=_FILE, help="With --on: its private key, PEM.")
@click.option(
    "--tls-ca", type=_FILE, help="With --on: authorities that callers' certificates must be of, PEM."
)
@click.option(
    "--instances",
    help="per-call, shared, or a number to reuse.  "
    "[default: per-call; with --on, shared where resources are passed]",
)
@click.option("--workers", type=click.IntRange(1), help="Threads that serve.  [default: one for each core]")
@click.option(
    "--env", "env", multiple=True, metavar="NAME=VALUE", help="Set a variable; NAME passes on the host's."
)
@click.option("--dir", "dirs", multiple=True, metavar="HOST::GUEST[:ro]", help="Show a directory.")
@click.option(
    "--allow-net", "net", multiple=True, metavar="HOST:PORT", help="Allow connections and wasi:http requests."
)
@click.option("--memory", default="256MiB", show_default=True, help="Memory of one instance.")
@click.option("--deadline", default="30s", show_default=True, help="How long one request may take.")
@click.option("--quiet", is_flag=True, help="Drop what the component prints.")
@lock_options
@trust_option
@click.pass_context
def serve(
    ctx: click.Context,
    component: str,
    addr: str,
    on: str | None,
    interfaces: tuple[str, ...],
    token: str | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    instances: str | None,
    workers: int | None,
    env: tuple[str, ...],
    dirs: tuple[str, ...],
    net: tuple[str, ...],
    memory: str,
    deadline: str,
    quiet: bool,
    locked: bool,
    offline: bool,
    policy: Path | None,
) -> None:
    """Serve HTTP, or a capability, by a component; or a folder.

    A folder is served by a component of loop-kit's own, which may read its files and nothing else: `/` is index.html,
    and what is missing 404.html.

    For HTTP a component exports wasi:http/incoming-handler (0.2) or wasi:http/handler (0.3). With --on it is the
    provider of the interfaces that it exports: other hosts use it as remote:ADDRESS. Each request or call gets a fresh
    instance, and those of interfaces with resources share one, unless --instances says otherwise. A NATS server is
    logged in to as NATS_USER and NATS_PASSWORD, NATS_TOKEN, or NATS_CREDS (a file) say. Ctrl-C lets what is in flight
    end and exits with 0.
    """
    import loop_kit as loop
    from loop_kit.cli.run import _dir, duration, rules, size, variables
    from loop_kit.manifest import Tls
    from loop_kit.wasi import Wasi

    here = ("addr", "workers") if on is not None else ("interfaces", "tls_certificate", "tls_key", "tls_ca")
    for name in here:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(p.opts[0] for p in ctx.command.params if p.name == name)
            raise click.UsageError(
                f"{option} {'is for HTTP, without' if on is not None else 'goes with'} --on"
            )
    stream: Literal["inherit"] | None = None if quiet else "inherit"
    keep: Any = instances or (None if on is not None else "per-call")
    if instances and instances.isdigit():
        keep = int(instances)
    try:
        limits = loop.Limits(
            memory=size(memory),
            deadline=duration(deadline),
            concurrent_calls=_REQUESTS,
            instances=keep,
        )
        wasi = Wasi(
            env=variables(env),
            dirs=tuple(_dir(text) for text in dirs),
            net=rules(net),
            http=rules(net),
            stdout=stream,
            stderr=stream,
        )
    except ValueError as e:
        raise click.UsageError(str(e)) from None

    if (tls_certificate is None) != (tls_key is None) or (tls_ca is not None and tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together, and --tls-ca with both")
    tls = Tls(tls_ca, tls_certificate, tls_key) if tls_certificate is not None else None

    is_folder = not component.startswith(("oci:", "oci-layout:")) and Path(component).is_dir()
    imports: dict[str, Any] = {}
    if is_folder:
        for name in _OF_COMPONENTS:
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = next(p.opts[0] for p in ctx.command.params if p.name == name)
                raise click.UsageError(f"{option} is for components, and {component} is a folder")
        if (Path(component) / "loop.toml").is_file():
            raise click.UsageError(
                f"{component} is a workspace: `loop run {component}` serves what its loop.toml says"
            )
        code: Any = loop.shipped("fsx/http")
        imports["loop:fsx"] = _files(Path(component))
    else:
        code = fetched(component, locked=locked, offline=offline, policy=policy)

    async def main() -> None:
        async with loop.Host() as host:
            app = await host.load(code, imports=imports, limits=limits, wasi=wasi)
            if on is not None:
                await _provide(component, app, on, interfaces, token, tls)
                return
            await serve_until_stopped([(component, app, addr)], workers)

    asyncio.run(main())


def _files(folder: Path) -> Any:
    """What serves a folder may read: its files, and by no link that leads out."""
    import loop_kit as loop

    # what is longer is a stream, and there may be one for each request
    root = {"path": str(folder.absolute()), "mode": "ro", "links": "follow"}
    return loop.builtin("fsx", roots={"site": root}, max_read=_WHOLE, max_streams=_REQUESTS)


async def _provide(
    component: str, app: Any, on: str, interfaces: tuple[str, ...], token: str | None, tls: Tls | None
) -> None:
    from loop_kit import provider

    stop = provider.stop_signal()
    server = await provider.serve_component(app, on=on, interfaces=interfaces, token=token, tls=tls)
    if on != "stdio:":
        click.echo(f"{strong(component)} at {server.address}  {dim('(Ctrl-C stops)')}")
    await provider.until_stopped(server, stop)
