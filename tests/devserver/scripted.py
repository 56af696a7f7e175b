"""A `loop:devserver` whose workspace is made up: what tests of the page look at, and tell what happens."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import loop_kit as loop
from loop_kit.dev._measured import Measured, of_host

STEPS = ("encode", "session", "queue", "provider", "decode")
# name, kind, placement, transport, source
SHOP = [
    ("storefront", "component", "component", "", "storefront/build/storefront.wasm"),
    ("checkout", "component", "component", "", "checkout/build/checkout.wasm"),
    ("search", "component", "component", "", "search/build/search.wasm"),
    ("mailer", "component", "component", "", "mailer/build/mailer.wasm"),
    ("catalog", "provider", "sidecar", "unix", "sidecar:python:catalog:Catalog"),
    ("images", "provider", "sidecar", "shm", "sidecar:node:images/index.js"),
    ("pricing", "provider", "remote", "quic", "remote:quic://pricing.lan:7000"),
    ("cache", "provider", "component", "", "component:loop:netx/http-cache"),
    ("files", "provider", "builtin", "", "builtin:fsx"),
    ("orders", "provider", "builtin", "", "builtin:keyvalue"),
    ("net", "provider", "builtin", "", "builtin:netx"),
    ("log", "provider", "python", "", "python:loop_kit.capabilities.core:Core"),
]
# importer, interface, provider, calls a second, microseconds a call, what is granted
LINKS = [
    ("storefront", "shop:catalog/items@1.2.0", "catalog", 410, 92, ["may ask for items of every shelf"]),
    (
        "storefront",
        "shop:images/thumbnails@1.0.0",
        "images",
        260,
        340,
        ["may have images of up to 4 MiB made"],
    ),
    ("storefront", "loop:fsx/files@0.1.0", "files", 120, 14, ["may read ./public (as `public`)"]),
    ("storefront", "loop:core/log@0.1.0", "log", 640, 3, ["may log up to 1,000 records a second"]),
    ("checkout", "shop:pricing/quotes@2.0.0", "pricing", 48, 1_450, ["may ask for quotes in EUR"]),
    ("checkout", "wasi:keyvalue/store@0.2.0", "orders", 96, 38, ["may read and write the bucket `orders`"]),
    ("checkout", "loop:core/log@0.1.0", "log", 130, 3, ["may log up to 1,000 records a second"]),
    ("search", "shop:catalog/items@1.2.0", "catalog", 88, 110, ["may ask for items of every shelf"]),
    ("search", "loop:fsx/files@0.1.0", "files", 22, 18, ["may read ./index (as `index`)"]),
    (
        "mailer",
        "loop:netx/http-client@0.1.0",
        "cache",
        6,
        21_000,
        ["may send requests to https://mail.example.com"],
    ),
    (
        "cache",
        "loop:netx/http-client@0.1.0",
        "net",
        4,
        28_000,
        ["may send requests to https://mail.example.com"],
    ),
    ("catalog", "wasi:keyvalue/store@0.2.0", "orders", 180, 31, ["may read the bucket `stock`"]),
]
SHARES = {
    "": None,
    "unix": (0.06, 0.22, 0.05, 0.61, 0.06),
    "shm": (0.03, 0.11, 0.12, 0.70, 0.04),
    "quic": (0.02, 0.55, 0.14, 0.27, 0.02),
}
DURATIONS = [12, 5, 3, 2]


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class Scripted:
    """Provides `loop:devserver`. `tell` makes something happen; `done` has what was asked for."""

    def __init__(self, *, more: int = 0, rates: bool = True) -> None:
        """`more`: members beside those of the shop. `rates`: whether links are called as time passes."""
        self.started = time.time()
        self.rates = rates
        self.done: list[list[Any]] = []
        self.counted: Measured | None = None
        self.history: list[Any] = []
        self.listeners: list[asyncio.Queue[Any]] = []
        self.all: dict[str, dict[str, Any]] = {}
        self.linked = list(LINKS)
        for row in SHOP:
            self._add(*row)
        for n in range(more):
            group = ("worker", "shard", "tenant", "probe")[n % 4]
            name = f"{group}-{n // 4:02}"
            kind = "component" if group in ("worker", "tenant") else "provider"
            placed = {"worker": ("component", ""), "tenant": ("component", ""), "shard": ("sidecar", "unix"),
                      "probe": ("remote", "tcp")}[group]  # fmt: skip
            self._add(name, kind, *placed, f"{group}/{name}.wasm")
            if kind == "component":
                other = f"{'shard' if group == 'worker' else 'probe'}-{n // 4:02}"
                self.linked.append((name, "fleet:jobs/queue@0.1.0", other, 3 + n % 5, 120, ["may take jobs"]))
                self.linked.append((name, "loop:core/log@0.1.0", "log", 2, 3, ["may log"]))
        names = {*self.all}
        self.linked = [link for link in self.linked if link[0] in names and link[2] in names]

    def _add(self, name: str, kind: str, placement: str, transport: str, source: str) -> None:
        is_own = placement == "sidecar"
        self.all[name] = {
            "name": name, "kind": kind, "placement": placement, "transport": transport, "source": source,
            "phase": "ready", "generation": 1, "digest": None if placement == "remote" else digest(source),
            "pid": 4200 + len(self.all) if is_own else None, "since": int(self.started * 1000), "restarts": 0,
            "reason": "", "crash-loop": False,
        }  # fmt: skip

    # workspace

    def about(self) -> dict[str, Any]:
        return {
            "name": "shop", "folder": "/srv/shop", "pid": os.getpid(), "instance": str(self.started),
            "started": int(self.started * 1000), "version": "0.1.0",
            "served": [("storefront", "http://127.0.0.1:8000/")],
        }  # fmt: skip

    def members(self) -> list[dict[str, Any]]:
        return [*self.all.values()]

    def links(self) -> list[dict[str, Any]]:
        return [self._link(*link) for link in self.linked]

    def _link(
        self, importer: str, interface: str, provider: str, rate: float, each: int, grants: list[str]
    ) -> dict[str, Any]:
        calls = int((time.time() - self.started) * rate) if self.rates else rate * 10
        shares = SHARES.get(self.all[provider]["transport"])
        spent = None
        if shares is not None:
            spent = {"calls": calls} | {
                step: int(calls * each * 1000 * share) for step, share in zip(STEPS, shares, strict=True)
            }
        errors = calls // 40 if provider == "pricing" else 0
        traffic = {"calls": calls, "errors": errors, "busy": calls * each * 1000, "spent": spent}
        return {
            "importer": importer, "interface": interface, "provider": provider, "grants": grants,
            "traffic": traffic if provider != "log" or self.rates else None,
        }  # fmt: skip

    async def restart(self, member: str) -> None:
        self.done.append(["restart", member])
        found = self._known(member)
        self.change(member, phase="draining")
        await asyncio.sleep(0.05)
        self.change(member, phase="ready", generation=found["generation"] + 1)

    async def apply(self, dry_run: bool, drain: int | None) -> list[dict[str, str]]:
        raise loop.Err(("refused", "there is no manifest"))

    async def swap(
        self, member: str, use: str | None, dry_run: bool, drain: int | None
    ) -> list[dict[str, str]]:
        self.done.append(["swap", member, use, dry_run, drain])
        found = self._known(member)
        if use is None:
            if found["digest"] is None:
                return []
            fresh = digest(f"{member} {found['generation'] + 1}")
            if not dry_run:
                self.change(member, generation=found["generation"] + 1, digest=fresh)
            return [{"member": member, "before": found["digest"], "after": fresh}]
        if ":" not in use:
            raise loop.Err(
                ("refused", f"{use!r} is no provider: expected builtin:, python:, sidecar: or remote:")
            )
        changes = [{"member": member, "before": found["source"], "after": use}]
        placement = use.partition(":")[0]
        changes.append({"member": member, "before": found["placement"], "after": placement})
        if not dry_run:
            self.change(
                member,
                source=use,
                placement=placement,
                generation=found["generation"] + 1,
                digest=digest(use),
            )
        return changes

    async def stop(self) -> None:
        self.done.append(["stop"])

    def _known(self, member: str) -> dict[str, Any]:
        if member not in self.all:
            raise loop.Err(("unknown", [name for name in self.all if name[:1] == member[:1]]))
        return self.all[member]

    # metrics

    def measured(self) -> dict[str, Any]:
        """As the real one has it of components; the processes are made up."""
        series, lost = ([], 0) if self.counted is None else self.counted.read()
        seconds = time.time() - self.started
        host = []
        for name, share, size in (("", 0.031, 148), ("catalog", 0.112, 41), ("images", 0.264, 96)):
            at = [("member", name)] if name else []
            if name and name not in self.all:
                continue
            host.append(of_host("process.cpu.time", "counter", "s", "CPU time", share * seconds, at))
            memory = size * 2**20 * (1 + 0.02 * math.sin(seconds))
            host.append(of_host("process.memory.usage", "gauge", "By", "Resident memory", memory, at))
        return {"series": [*host, *series], "lost": lost}

    # loader, command

    async def load(self, component: str) -> None:
        self._known(component)

    def commands(self) -> list[dict[str, str]]:
        return [
            {"name": "seed", "summary": "Fill the shelves with made-up items", "usage": "[COUNT]"},
            {"name": "drain-queue", "summary": "Send the mails that wait", "usage": ""},
        ]

    async def run(self, name: str, args: list[str]) -> tuple[int, str]:
        self.done.append(["run", name, *args])
        if name not in ("seed", "drain-queue"):
            raise loop.Err(f"there is no command {name!r}")
        return (0, f"{name}: {' '.join(args) or 'nothing given'}, done\n")

    # events

    async def subscribe(self, topics: Any, history: int) -> AsyncIterator[Any]:
        queue: asyncio.Queue[Any] = asyncio.Queue(200_000)
        for event in self.history[-history:] if history else []:
            queue.put_nowait(event)
        self.listeners.append(queue)
        return self._from(queue)

    async def _from(self, queue: asyncio.Queue[Any]) -> AsyncIterator[Any]:
        try:
            while True:
                yield await queue.get()
                while not queue.empty():
                    yield queue.get_nowait()
        finally:
            self.listeners.remove(queue)

    # what a test has happen

    def tell(self, case: str, value: Any) -> None:
        self.history.append((case, value))
        del self.history[:-5_000]
        for queue in self.listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait((case, value))

    def change(self, member: str, **changes: Any) -> None:
        self.all[member] |= changes | {"since": int(time.time() * 1000)}
        self.tell("member", dict(self.all[member]))

    def line(self, level: str, source: str, target: str, message: str, **fields: str) -> None:
        told = {
            "time": int(time.time() * 1000), "level": level, "source": source, "target": target,
            "message": message, "fields": [*fields.items()],
        }  # fmt: skip
        self.tell("line", told)

    def refusal(self, importer: str, interface: str, what: str, proposal: str) -> None:
        told = {"time": int(time.time() * 1000), "importer": importer, "interface": interface, "what": what,
                "proposal": proposal}  # fmt: skip
        self.tell("refusal", told)

    def build(
        self, member: str, step: str, milliseconds: int = 0, output: str = "", places: Any = ()
    ) -> None:
        told = {
            "member": member,
            "step": step,
            "milliseconds": milliseconds,
            "output": output,
            "places": [*places],
        }
        self.tell("build", told)

    def trace(self, number: int, *, error: str = "") -> None:
        """A request that goes through three processes."""
        trace, start = f"{number:032x}", time.time_ns() - 12_000_000
        by = (60 + 37 * number % 80) / 100  # no two take as long
        spans = [
            ("01", "", "GET /items/{id}", "storefront", 0, 7_900_000, error),
            ("02", "01", "shop:catalog/items#get", "storefront", 350_000, 2_100_000, ""),
            ("03", "02", "get", "catalog", 610_000, 1_500_000, ""),
            ("04", "03", "wasi:keyvalue/store#get", "catalog", 820_000, 640_000, ""),
            ("05", "01", "shop:images/thumbnails#make", "storefront", 2_700_000, 4_300_000, error),
            ("06", "05", "make", "images", 3_050_000, 3_700_000, error),
            ("07", "06", "decode", "images", 3_120_000, 900_000, ""),
            ("08", "06", "resize", "images", 4_100_000, 2_500_000, error),
            ("09", "01", "render", "storefront", 7_050_000, 760_000, ""),
        ]
        for id, parent, name, source, offset, took, why in spans:
            self.tell("span", {
                "trace": trace, "id": f"{number:014x}{id}", "parent": parent and f"{number:014x}{parent}",
                "name": name, "source": source, "start": start + int(offset * by), "nanoseconds": int(took * by),
                "error": why,
            })  # fmt: skip


def failure() -> Iterator[tuple[str, Any]]:
    """What a build that failed says, as arguments of `build`."""
    yield "milliseconds", 840
    yield "output", 'src/cart.js:14:23: error: Expected ")" but found ";"\n1 error\n'
    yield "places", [
        {
            "file": "checkout/src/cart.js", "line": 14, "column": 23,
            "excerpt": "  11 | export function total(items) {\n"
            "  12 |   let sum = 0;\n"
            "  13 |   for (const item of items) {\n"
            "> 14 |     sum += price(item.id;\n"
            "     |                         ^\n"
            "  15 |   }\n"
            "  16 |   return sum;\n"
            "  17 | }",
        }
    ]  # fmt: skip
