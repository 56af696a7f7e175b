"""Buckets of JetStream, by nats-py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from nats import errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from loop_kit.capabilities._nats_connection import Connection, options
from loop_kit.capabilities.keyvalue._grant import other
from loop_kit.capabilities.keyvalue._subject import key_of, key_token
from loop_kit.capabilities.keyvalue._watch import Change
from loop_kit.manifest.model import Login, Tls

__all__ = ["Entry", "JetStream", "Stale"]

_LOG = logging.getLogger(__name__)
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_MARKER = {"KV-Operation": "DEL"}
_OPERATION, _DELETED = "KV-Operation", ("DEL", "PURGE")
# A line of the protocol has 4,096 bytes at most, with a reply's subject and lengths.
_LONGEST = 3800
# Error codes of JetStream's API.
_WRONG_REVISION, _NO_BUCKET, _EXISTS, _FULL = 10071, 10059, 10058, (10077, 10047)
_PAGE = 500
_SCANS = 20  # fetches of so many for one page: what is deleted is there still, and is passed over
_AT_ONCE = 32
_LAST = 2**63 - 2
# Seconds that a watch waits at the server before it asks anew, and that the server keeps its place without.
_LINGER, _FORGET = 5, 30
# Seconds from one attempt to watch to the next, while the server cannot be reached.
_AGAIN = 0.2


class Stale(Exception):
    """Somebody else has written the key meanwhile."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a key.

    Attributes:
        value: Its value; None: there is none.
        revision: Of its last change; 0: there was none.
    """

    value: bytes | None
    revision: int


class JetStream:
    """A server, connected to by the first call, and again by the first after a connection was lost.

    Every method raises `Err` with an `error` where it fails.

    Args:
        servers: `nats://HOST:PORT` of one, or of some of a cluster.
        login: Whom to be.
        tls: Files of certificates; None: without TLS.
        replicas: Servers that keep a bucket that is made.
        patience: Seconds that a request may take.
    """

    def __init__(
        self, servers: Sequence[str], login: Login | None, tls: Tls | None, replicas: int, patience: float
    ) -> None:
        self._servers = list(servers)
        self._where = " or ".join(servers)
        self._options = options(login, tls)
        self._shown = _shown(login)
        self._replicas = replicas
        self._patience = patience
        self._client: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._waiting: set[asyncio.Timeout] = set()
        self._made: set[str] = set()
        self._said = ""
        self._closed = False

    async def aclose(self) -> None:
        """Ends the connection. Again is harmless."""
        self._closed = True
        while (connecting := self._connecting) is not None:
            # more than once: before Python 3.12 `wait_for`, which nats-py is in, may pass over one
            connecting.cancel()
            await asyncio.wait((connecting,), timeout=0.1)
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def make(self, bucket: str) -> None:
        """Makes a bucket where there is none."""
        if bucket in self._made:
            return
        config = api.StreamConfig(
            name=f"KV_{bucket}",
            subjects=[f"$KV.{bucket}.>"],
            max_msgs_per_subject=1,
            allow_rollup_hdrs=True,
            allow_direct=True,
            deny_delete=True,
            discard=api.DiscardPolicy.NEW,
            storage=api.StorageType.FILE,
            num_replicas=self._replicas,
        )
        async with self._asking() as js:
            try:
                await js.stream_info(f"KV_{bucket}")
            except NotFoundError:
                try:
                    await js.add_stream(config)
                except APIError as error:
                    if error.err_code != _EXISTS:  # somebody else was faster
                        raise
        self._made.add(bucket)

    async def last(self, bucket: str, key: str) -> Entry:
        """A key as it is now; the server that leads the bucket is asked, so that one reads what one wrote."""
        async with self._asking(bucket) as js:
            try:
                found = await js.get_last_msg(f"KV_{bucket}", f"$KV.{bucket}.{_token(key)}")
            except NotFoundError as error:
                if error.err_code == _NO_BUCKET:
                    raise
                return Entry(None, 0)
        revision = found.seq or 0
        deleted = _is_deleted(found)
        return Entry(None if deleted else found.data or b"", revision)

    async def put(self, bucket: str, key: str, value: bytes, revision: int | None = None) -> None:
        """Sets a key; `revision`: the last change that there may have been.

        Raises:
            Stale: There was another.
        """
        headers = None if revision is None else {_EXPECTED: str(revision)}
        await self._publish(bucket, key, value, headers)

    async def delete(self, bucket: str, key: str) -> None:
        """Deletes a key."""
        # a marker for a key that never was would stay for nothing
        if (await self.last(bucket, key)).value is not None:
            await self._publish(bucket, key, b"", _MARKER)

    async def _publish(self, bucket: str, key: str, value: bytes, headers: dict[str, str] | None) -> None:
        subject = f"$KV.{bucket}.{_token(key)}"
        async with self._asking(bucket) as js:
            try:
                await js.publish(subject, bytes(value), headers=headers, timeout=self._patience + 1)
            except APIError as error:
                if error.err_code == _WRONG_REVISION:
                    raise Stale from None
                if error.err_code not in _FULL or headers is not _MARKER:
                    raise
                # a marker may be larger than what it stands for, and deleting is what makes room
                await js.purge_stream(f"KV_{bucket}", subject=subject)
                with contextlib.suppress(APIError):
                    await js.publish(subject, headers=headers, timeout=self._patience + 1)
            except errors.MaxPayloadError:
                most = self._client.max_payload if self._client else 0
                raise other(
                    f"a value of {len(value)} bytes; `max_payload` of the NATS server lets a message have {most}"
                ) from None

    async def page(self, bucket: str, after: int, most: int) -> tuple[list[str], int | None]:
        """Keys that were last changed after the revision `after`, and that of the last of them if there are more.

        A page may be shorter than `most` where many keys were deleted.
        """
        keys: list[str] = []
        config = _from(bucket, min(after, _LAST) + 1, headers_only=True)
        async with self._asking(bucket) as js:
            info = await js.add_consumer(f"KV_{bucket}", config)
            left, cursor = info.num_pending or 0, after
            if not left:
                return keys, None
            held = await js.pull_subscribe_bind(consumer=info.name, stream=f"KV_{bucket}")
            try:
                for _ in range(_SCANS):
                    for message in await held.fetch(min(left, _PAGE), timeout=self._patience + 1):
                        left, cursor = message.metadata.num_pending, message.metadata.sequence.stream
                        key = _key(bucket, message)
                        if key is not None and not _is_deleted(message):
                            keys.append(key)
                        if len(keys) == most:
                            break
                    if len(keys) == most or not left:
                        break
            finally:
                await _ended(js, held, bucket, info.name)
        return keys, cursor if left else None

    async def changes(self, bucket: str, started: Callable[[], None]) -> AsyncIterator[Change]:
        """What changes in a bucket from now on, whoever changes it; `started` is called when that begins.

        Of a key that changes faster than this is read, the server keeps the last change alone. Goes on where it was
        after a connection was lost.
        """
        after: int | None = None
        made: datetime | None = None
        level = logging.WARNING
        while not self._closed:
            try:
                async with self._asking(bucket) as js:
                    info = await js.stream_info(f"KV_{bucket}")
                if after is None:
                    after, made = info.state.last_seq, info.created
                    started()
                elif made != info.created or info.state.last_seq < after:  # the bucket was made anew
                    after, made = 0, info.created
                async with contextlib.aclosing(self._followed(bucket, after)) as messages:
                    async for message in messages:
                        level = logging.WARNING
                        after, key = message.metadata.sequence.stream, _key(bucket, message)
                        if key is not None:
                            yield Change(key, None if _is_deleted(message) else message.data)
            except Exception as error:
                if after is None:
                    raise
                # once an outage: it is tried again often
                _LOG.log(level, "watching %s goes on once it can: %s", bucket, error)
                level = logging.DEBUG
                await asyncio.sleep(_AGAIN)

    async def _followed(self, bucket: str, after: int) -> AsyncGenerator[Msg]:
        async with self._asking(bucket) as js:
            info = await js.add_consumer(f"KV_{bucket}", _from(bucket, after + 1, headers_only=False))
            held = await js.pull_subscribe_bind(consumer=info.name, stream=f"KV_{bucket}")
        try:
            while True:
                try:
                    messages = await held.fetch(_AT_ONCE, timeout=_LINGER)
                except errors.TimeoutError:
                    continue
                except asyncio.CancelledError:
                    self._given_up()
                for message in messages:
                    yield message
        finally:
            await _ended(js, held, bucket, info.name)

    @contextlib.asynccontextmanager
    async def _asking(self, bucket: str | None = None) -> AsyncIterator[JetStreamContext]:
        """The connection for some requests, whose failures become an `error`."""
        client = await self._connected()
        try:
            async with asyncio.timeout(self._patience) as patience:
                self._waiting.add(patience)
                try:
                    yield client.jetstream(timeout=self._patience + 1)
                finally:
                    self._waiting.discard(patience)
        except asyncio.CancelledError:
            self._given_up()
        except (APIError, NoStreamResponseError, errors.NoRespondersError) as error:
            raise self._refusal(error, bucket) from None
        except TimeoutError:
            if client.is_closed:
                raise other(f"the NATS server at {self._where} has gone away") from None
            said, self._said = self._said, ""  # such as that it may not ask
            words = f"did not answer within {self._patience:g} s{': ' * bool(said)}{said}"
            raise other(f"the NATS server at {self._where} {words}") from None
        except (errors.Error, OSError) as error:
            raise other(f"the NATS server at {self._where} fails: {_words(error)}") from None

    def _given_up(self) -> NoReturn:
        """Tells a task that was cancelled from what nats-py does to those that wait when a connection ends."""
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise asyncio.CancelledError
        if self._closed:
            raise other("the provider was closed")
        raise other(f"the NATS server at {self._where} has gone away") from None

    def _refusal(self, error: Exception, bucket: str | None) -> Exception:
        """What JetStream said, as an `error`; nobody answers for buckets that are not there."""
        code = error.err_code if isinstance(error, APIError) else None
        if bucket is not None and code in (None, _NO_BUCKET):
            self._made.discard(bucket)
        if code is None:
            words = "has no such bucket, or no JetStream: start it with `--jetstream`"
            return other(f"the NATS server at {self._where} {words}")
        full = "; the bucket is as large as JetStream lets it be" if code in _FULL else ""
        return other(f"JetStream refuses: {getattr(error, 'description', '')}{full}")

    async def _connected(self) -> Connection:
        if self._closed:
            raise other("the provider was closed")
        client = self._client
        if client is not None and client.is_connected:
            return client
        if self._connecting is None:
            # one attempt for all who wait
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._tried)
        try:
            return await asyncio.shield(self._connecting)
        except asyncio.CancelledError:
            self._given_up()

    def _tried(self, task: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # those who waited have it, if anybody still did

    async def _connect(self) -> Connection:
        client = Connection(tls_only="tls" in self._options)
        self._said = ""
        try:
            async with asyncio.timeout(self._patience):
                await client.connect(
                    self._servers,
                    name="loop-kit",
                    # a lost connection is made anew by whoever needs it, so that others learn of it at once
                    allow_reconnect=False,
                    connect_timeout=max(1, int(self._patience / len(self._servers))),
                    ping_interval=10,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=self._told,
                    closed_cb=self._lost,
                    **self._options,
                )
        except asyncio.CancelledError:
            client.drop()
            raise
        except Exception as error:
            client.drop()
            said = self._said or _words(error)
            if "authorization" in said.lower() or "authentication" in said.lower():
                words = f"refuses this client: {said}; it was shown {self._shown}"
            elif isinstance(error, errors.SecureConnRequiredError):
                words = "has no TLS, which the config asks for"
            elif isinstance(error, TimeoutError):
                words = f"cannot be reached within {self._patience:g} s"
            else:
                words = f"cannot be reached: {said}"
            raise other(f"the NATS server at {self._where} {words}") from None
        self._client = client
        return client

    async def _told(self, error: Exception) -> None:
        self._said = _words(error)

    async def _lost(self) -> None:
        # who waits for an answer gets none any more
        now = asyncio.get_running_loop().time()
        for patience in self._waiting:
            patience.reschedule(now)


def _from(bucket: str, revision: int, *, headers_only: bool) -> api.ConsumerConfig:
    """A consumer of all changes from a revision on, which the server forgets soon where nobody asks it."""
    return api.ConsumerConfig(
        deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=revision,
        ack_policy=api.AckPolicy.NONE,
        filter_subject=f"$KV.{bucket}.>",
        headers_only=headers_only,
        inactive_threshold=_FORGET,
        mem_storage=True,
        num_replicas=1,
    )


async def _ended(
    js: JetStreamContext, held: JetStreamContext.PullSubscription, bucket: str, name: str
) -> None:
    """Ends a consumer; the server does, if this cannot."""
    with contextlib.suppress(Exception):
        await held.unsubscribe()
        await js.delete_consumer(f"KV_{bucket}", name)


def _key(bucket: str, message: Msg) -> str | None:
    """The key that a change is of; None: none of ours."""
    return key_of(message.subject.removeprefix(f"$KV.{bucket}."))


def _is_deleted(message: Msg | api.RawStreamMsg) -> bool:
    headers = message.headers or {}
    # what a bucket with a time to live leaves behind has no operation
    return headers.get(_OPERATION) in _DELETED or "Nats-Marker-Reason" in headers


def _token(key: str) -> str:
    token = key_token(key)
    if len(token) > _LONGEST:
        raise other(f"a key of {len(token)} bytes as NATS has it, which takes {_LONGEST}")
    return token


def _words(error: BaseException) -> str:
    return str(error).removeprefix("nats: ").strip("'") or type(error).__name__


def _shown(login: Login | None) -> str:
    """The same in words."""
    if login is None:
        return "no login"
    if login.user is not None:
        return f"the user {login.user} and a password"
    return "a token" if login.token is not None else "credentials"
