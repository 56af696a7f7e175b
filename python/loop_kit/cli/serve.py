"""`loop serve`."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import click

from loop_kit.cli._output import examples
from loop_kit.cli._serving import serve_until_stopped


@click.command(
    epilog=examples(
        ("loop serve app.wasm", "at 127.0.0.1:8080, a fresh instance for each request"),
        ("loop serve app.wasm --addr 127.0.0.1:0", "at any free port, which is printed"),
        ("loop serve app.wasm --instances 16", "reuse up to 16 instances"),
    )
)
@click.argument("component", type=click.Path(exists=True, dir_okay=False))
@click.option("--addr", default="127.0.0.1:8080", show_default=True, help="Where to listen.")
@click.option(
    "--instances", default="per-call", show_default=True, help="per-call, shared, or a number to reuse."
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
def serve(
    component: str,
    addr: str,
    instances: str,
    workers: int | None,
    env: tuple[str, ...],
    dirs: tuple[str, ...],
    net: tuple[str, ...],
    memory: str,
    deadline: str,
    quiet: bool,
) -> None:
    """Serve HTTP by a component.

    The component exports wasi:http/incoming-handler (0.2) or wasi:http/handler (0.3). Each request gets a fresh
    instance unless --instances says otherwise. Ctrl-C lets requests in flight end and exits with 0.
    """
    import loop_kit as loop
    from loop_kit.cli.run import _dir, duration, rules, size, variables
    from loop_kit.wasi import Wasi

    stream: Literal["inherit"] | None = None if quiet else "inherit"
    policy: Any = int(instances) if instances.isdigit() else instances
    try:
        limits = loop.Limits(
            memory=size(memory),
            deadline=duration(deadline),
            concurrent_calls=10_000,
            instances=policy,
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

    async def main() -> None:
        async with loop.Host() as host:
            app = await host.load(component, limits=limits, wasi=wasi)
            await serve_until_stopped([(component, app, addr)], workers)

    asyncio.run(main())
