"""The provider of `wasi:keyvalue` in Python that keeps values in NATS JetStream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from loop_kit._login import of_environment
from loop_kit.capabilities import _nats, _settings
from loop_kit.capabilities._hints import Hints
from loop_kit.capabilities.keyvalue._grant import Granted, KeyResponse, granted, grown, missing, other
from loop_kit.capabilities.keyvalue._provider import INTERFACES
from loop_kit.capabilities.keyvalue._subject import bucket_name
from loop_kit.provider import provider

if TYPE_CHECKING:
    from loop_kit.capabilities.keyvalue._jetstream import JetStream
    from loop_kit.capabilities.keyvalue._watch import Change

__all__ = ["NatsBucket", "NatsKeyValue"]

_T = TypeVar("_T")
_K = TypeVar("_K")
# Requests of one batch that are on their way at once.
_AT_ONCE = 16
# How often a number that others grow too is tried.
_TRIES = 100


class NatsBucket:
    """A bucket under a grant. Every method raises `Err` with an `error` where it fails."""

    def __init__(self, server: JetStream, name: str, granted: Granted) -> None:
        self._server = server
        self._name = name
        self._granted = granted
        # those who grow numbers here take turns: each that came between would be one more try
        self._turn = asyncio.Lock()

    async def make(self) -> None:
        """Makes it where it is not there."""
        await self._server.make(self._name)

    async def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return (await self._server.last(self._name, self._granted.one(key))).value

    async def exists(self, key: str) -> bool:
        """Whether there is a key."""
        return await self.get(key) is not None

    async def list_keys(self, cursor: int | None) -> KeyResponse:
        """A page of keys, from a cursor on."""
        return KeyResponse(*await self._server.page(self._name, cursor or 0, self._granted.list))

    async def set(self, key: str, value: bytes) -> None:
        """Sets the value of a key."""
        await self.set_many([(key, value)])

    async def delete(self, key: str) -> None:
        """Deletes a key; nothing happens where there is none."""
        await self.delete_many([key])

    async def increment(self, key: str, delta: int) -> int:
        """Adds to a number that is kept as decimal digits; 0 where there is none."""
        from loop_kit.capabilities.keyvalue._jetstream import Stale

        self._granted.may_write()
        self._granted.one(key)
        async with self._turn:
            for _ in range(_TRIES):
                entry = await self._server.last(self._name, key)
                number = grown(entry.value, delta)
                with contextlib.suppress(Stale):
                    await self._server.put(self._name, key, str(number).encode(), entry.revision)
                    return number
        raise other(f"others have written the key each of {_TRIES} times that this was tried")

    async def get_many(self, keys: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """The keys with their values, None for those that are not there."""
        self._granted.many(keys)
        entries = await _each(dict.fromkeys(keys), lambda key: self._server.last(self._name, key))
        values = ((key, entries[key].value) for key in keys)
        return [None if value is None else (key, value) for key, value in values]

    async def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Sets the values of keys; of a key that is there twice, the last."""
        self._granted.may_write()
        self._granted.pairs(pairs)
        values = dict(pairs)
        await _each(values, lambda key: self._server.put(self._name, key, values[key]))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Deletes keys."""
        self._granted.may_write()
        self._granted.many(keys)
        await _each(dict.fromkeys(keys), lambda key: self._server.delete(self._name, key))

    def changes(self, started: Callable[[], None]) -> AsyncIterator[Change]:
        """What anybody changes in it from now on; `started` is called when that begins."""
        return self._server.changes(self._name, started)


@provider(*INTERFACES, wit="wit")
class NatsKeyValue:
    """Serves `wasi:keyvalue` from a NATS server with JetStream: all who use it share the buckets.

        async with NatsKeyValue(config={"url": "nats://127.0.0.1:4222"}, grant={"buckets": {"b": {"mode": "rw"}}}) as kv:
            app = await host.load("app.wasm", imports={"wasi:keyvalue": kv})

    It connects when it is first called, and again after a connection was lost. It belongs to one event loop.

    Args:
        config: `url`, of the server, or a list of those of a cluster; `prefix`: what the names of its buckets begin
            with; `replicas` of a bucket that is made; `timeout`, the seconds that a request may take; `login`: `user`
            and `password`, `token` or `credentials`, else as the environment says; `tls`: `ca`, `certificate`, `key`,
            `server-name`.
        grant: As of `KeyValue`, without `max-size`, which is JetStream's to keep.

    Raises:
        ValueError: A key of the config or grant is not known, or its value does not do; nats-py is not installed.
    """

    Bucket = NatsBucket

    def __init__(
        self, *, config: Mapping[str, Any] | None = None, grant: Mapping[str, Any] | None = None
    ) -> None:
        given = _settings.table("config", config, _nats.KEYS)
        server = _nats.server(given)
        prefix = given.get("prefix", "")
        if not isinstance(prefix, str) or bucket_name(prefix or "x") != (prefix or "x"):
            raise ValueError(f"config.prefix: must be letters, digits, `_` and `-`, got {prefix!r}")
        login = server.login or of_environment("nats:")
        self._hints = Hints("wasi:keyvalue")
        buckets = granted(grant, self._hints)
        for name, bucket in buckets.items():
            if bucket.max_size is not None:
                command = f"nats kv add {prefix}{bucket_name(name)} --max-bucket-size=…"
                hint = f"bound it there, by `{command}`, and leave this out"
                raise ValueError(
                    f"grant.buckets.{name}.max-size: JetStream bounds its buckets itself; {hint}"
                )
        try:
            from loop_kit.capabilities.keyvalue._jetstream import JetStream
        except ImportError as error:
            raise _nats.not_installed(error) from None
        try:
            self._server = JetStream(server.urls, login, server.tls, server.replicas, server.timeout)
        except OSError as error:  # of TLS too
            raise ValueError(f"config.tls: its files cannot be used: {error}") from None
        self._buckets = {
            name: NatsBucket(self._server, prefix + bucket_name(name), bucket)
            for name, bucket in buckets.items()
        }

    async def __aenter__(self) -> NatsKeyValue:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the connection. Again is harmless."""
        await self._server.aclose()

    async def open(self, identifier: str) -> NatsBucket:
        """The bucket of this name, which is made where there is none.

        Raises:
            Err: `access-denied`: the grant has none; `other`: the server cannot be reached, or refuses.
        """
        if identifier not in self._buckets:
            raise missing(identifier, self._hints)
        bucket = self._buckets[identifier]
        await bucket.make()
        return bucket

    async def increment(self, bucket: NatsBucket, key: str, delta: int) -> int:
        """`atomics`."""
        return await bucket.increment(key, delta)

    async def get_many(self, bucket: NatsBucket, keys: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """`batch`."""
        return await bucket.get_many(keys)

    async def set_many(self, bucket: NatsBucket, key_values: Sequence[tuple[str, bytes]]) -> None:
        """`batch`."""
        await bucket.set_many(key_values)

    async def delete_many(self, bucket: NatsBucket, keys: Sequence[str]) -> None:
        """`batch`."""
        await bucket.delete_many(keys)


async def _each(keys: Iterable[_K], ask: Callable[[_K], Awaitable[_T]]) -> dict[_K, _T]:
    """Asks for each of some keys, for some of them at once; where one fails, what was asked has ended first."""
    waiting = list(keys)
    answers: dict[_K, _T] = {}
    for at in range(0, len(waiting), _AT_ONCE):
        some = waiting[at : at + _AT_ONCE]
        asked = [asyncio.ensure_future(ask(key)) for key in some]
        await asyncio.gather(*asked, return_exceptions=True)
        answers.update((key, one.result()) for key, one in zip(some, asked, strict=True))
    return answers
