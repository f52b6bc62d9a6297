"""The server's side of a line to the zygote or to a box: requests, and their checked replies."""

import asyncio
import errno
import itertools
import json
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeAlias, cast

from patchkiln.errors import PatchkilnError, SandboxUnavailable
from patchkiln.sandboxes.local.box import wire

_MAX_TEXT_CHARS = 100
_NUMBERS = range(1 << 63)
# Of errors, signals and processes: what a C int holds, or nothing could be told of them.
_INTS = range(1 << 31)
_INT_FIELDS = frozenset({"code", "signal", "errno", "pid"})
# Descriptors on their way count by user, the boxes' among them: a shortage passes, and says nothing
# about the line.
SHORTAGES = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_TRIES = 25
_PAUSE_S = 0.02
_EVENTS = frozenset(
    {"created", "destroyed", "done", "ended", "failed", "listening", "ready", "serving", "started"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply that has the shape of one; what it says is still the other side's word."""

    event: str
    id: int = 0
    code: int = 0
    signal: int = 0
    errno: int = 0
    max_rss_bytes: int = 0
    pid: int = 0
    step: str = ""
    as_root: bool = False
    cgroup: int = 0
    disk_bytes: int = 0
    cpu_ms: int = -1
    memory_bytes: int = -1
    processes: int = -1
    frozen: bool = False


_TYPES: dict[str, type] = {
    field.name: str if field.name == "event" else type(field.default) for field in fields(Reply)
}

Handler: TypeAlias = Callable[[Reply | None], None]


class Channel:
    """A line with requests in flight. A malformed reply, or its end, makes it lost."""

    def __init__(self, control: socket.socket, lost: Callable[[], PatchkilnError]) -> None:
        """Take the socket, and what makes the error that callers get once the line is lost."""
        control.settimeout(0.0)
        self._control = control
        self.lost = lost
        self._ids = itertools.count(1)
        self._handlers: dict[int, Handler] = {}
        # Where the descriptors go that come with the reply to a request.
        self._baskets: dict[int, list[int]] = {}
        self._sending = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        self._posting: set[asyncio.Task[None]] = set()
        self.closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(control.fileno(), self._on_readable)

    async def request(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> Reply:
        """Send a request and return its reply. Raises the line's error once it is lost."""
        reply = await (await self.begin(message, descriptors))
        if reply is None:
            raise self.lost()
        return reply

    async def request_descriptors(
        self, message: dict[str, Any], count: int
    ) -> tuple[Reply, list[int]]:
        """Send a request whose reply brings descriptors; return both.

        The descriptors are as many as asked for, and none when the reply is ``failed``; what they
        are is for the caller to check. Any other number loses the line, as any malformed reply
        does. Raises the line's error once it is lost.
        """
        replied: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        number = self.listen(partial(_resolve, replied))
        basket = self._baskets[number] = []
        try:
            await self.send({**message, "id": number}, ())
            reply = self._checked(await replied, basket, count)
        except BaseException:
            wire.close_all(basket)
            raise
        finally:
            self._baskets.pop(number, None)
            self.forget(number)
        return reply, basket

    def _checked(self, reply: Reply | None, basket: list[int], count: int) -> Reply:
        if reply is not None and len(basket) == (0 if reply.event == "failed" else count):
            return reply
        self.close()
        raise self.lost()

    async def begin(
        self, message: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> asyncio.Future[Reply | None]:
        """Send a request; its reply, or None for a lost line, comes later.

        Raises the line's error where it is lost already.
        """
        replied: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        number = self.listen(partial(_resolve, replied))
        replied.add_done_callback(lambda _: self.forget(number))
        try:
            await self.send({**message, "id": number}, descriptors)
        except BaseException:
            replied.cancel()
            raise
        return replied

    def listen(self, handler: Handler) -> int:
        """Return a new request's number; its handler gets every reply, and None at the end."""
        number = next(self._ids)
        self._handlers[number] = handler
        return number

    def forget(self, number: int) -> None:
        """Let later replies to a request pass unheard."""
        self._handlers.pop(number, None)

    async def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message.

        Raises the line's error once it is lost, and `SandboxUnavailable` where the system is short
        of descriptors or memory: then the line stays whole.
        """
        if self._sends_at_once(message, descriptors):
            return
        tries = 0
        async with self._sending:
            while not self.closed.is_set():
                try:
                    wire.send(self._control, message, descriptors)
                except BlockingIOError:
                    await self._wait_for_room()
                except OSError as error:
                    tries += 1
                    await self._outlast(error, tries)
                else:
                    return
        raise self.lost()

    def _sends_at_once(self, message: dict[str, Any], descriptors: Sequence[int]) -> bool:
        """Send a message where nothing is in the way; most need no more."""
        if self._posting or self._sending.locked() or self.closed.is_set():
            return False
        try:
            wire.send(self._control, message, descriptors)
        except OSError:  # told by the next try
            return False
        return True

    def post(self, message: dict[str, Any]) -> None:
        """Send a message that needs no answer, soon; a lost line is no error."""
        if self._sends_at_once(message, ()):
            return
        task = asyncio.create_task(self._post(message))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    def close(self) -> None:
        """Close the line and tell everyone who waits. Idempotent."""
        if self.closed.is_set():
            return
        self.closed.set()
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control.fileno())
        if self._room is not None:
            loop.remove_writer(self._control.fileno())
            _settle(self._room)
        self._control.close()
        handlers, self._handlers = self._handlers, {}
        for handler in handlers.values():
            handler(None)

    async def _post(self, message: dict[str, Any]) -> None:
        with suppress(PatchkilnError):
            await self.send(message)

    async def _outlast(self, error: OSError, tries: int) -> None:
        """Wait a moment after a shortage, as often as is sensible; any other error is the end."""
        if error.errno not in SHORTAGES:
            self.close()
        elif tries == _TRIES:
            raise SandboxUnavailable(
                f"The server cannot reach its sandboxes ({os.strerror(error.errno)}).",
                remedy="Raise the server's limit of open files (LimitNOFILE= in its unit, or "
                "ulimit -n), and look at free memory.",
            ) from error
        else:
            await asyncio.sleep(_PAUSE_S)

    async def _wait_for_room(self) -> None:
        """Wait until the other side has read something, or the line is closed."""
        loop = asyncio.get_running_loop()
        self._room = loop.create_future()
        loop.add_writer(self._control.fileno(), _settle, self._room)
        try:
            await self._room
        finally:
            self._room = None
            if not self.closed.is_set():
                loop.remove_writer(self._control.fileno())

    def _on_readable(self) -> None:
        # Without room for descriptors, the kernel drops those that nobody asked for.
        room = wire.MAX_DESCRIPTORS if self._baskets else 0
        try:
            body, descriptors = wire.receive_packet(self._control, room)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        reply = parse_reply(body)
        self._put(reply, descriptors)
        if reply is None:
            self.close()
            return
        handler = self._handlers.get(reply.id)
        if handler is not None:
            handler(reply)

    def _put(self, reply: Reply | None, descriptors: list[int]) -> None:
        """Hand descriptors to the request that waits for some, once; else close them."""
        basket = None if reply is None else self._baskets.pop(reply.id, None)
        if basket is None:
            wire.close_all(descriptors)
        else:
            basket.extend(descriptors)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _resolve(replied: asyncio.Future[Reply | None], reply: Reply | None) -> None:
    if not replied.done():
        replied.set_result(reply)


def parse_reply(body: bytes) -> Reply | None:
    """Check the shape of a packet; None for what is no reply."""
    try:
        message: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    items = cast("dict[str, Any]", message)
    for name, value in items.items():
        if not _fits(name, value):
            return None
    return Reply(**items) if items.get("event") in _EVENTS else None


def _fits(name: str, value: Any) -> bool:
    """Tell whether a field exists, has its type and a sane size."""
    if type(value) is not _TYPES.get(name):
        return False
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT_CHARS
    return value in (_INTS if name in _INT_FIELDS else _NUMBERS)
