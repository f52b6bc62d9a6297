"""The server's side of a line to the zygote or to a box: requests, and their checked replies."""

import asyncio
import itertools
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from patchkiln.errors import PatchkilnError
from patchkiln.sandboxes.local import pipes, wire

_MAX_STEP_CHARS = 100
_EVENTS = frozenset(
    {"created", "destroyed", "done", "ended", "failed", "ready", "serving", "started"}
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


Handler: TypeAlias = Callable[[Reply | None], None]


class Channel:
    """A line with requests in flight. A malformed reply, or its end, makes it lost."""

    def __init__(self, control: socket.socket, lost: Callable[[], PatchkilnError]) -> None:
        """Take the socket, and what makes the error that callers get once the line is lost."""
        control.setblocking(False)
        self._control = control
        self.lost = lost
        self._ids = itertools.count(1)
        self._handlers: dict[int, Handler] = {}
        self._sending = asyncio.Lock()
        self.closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(control.fileno(), self._on_readable)

    async def request(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> Reply:
        """Send a request and return its reply. Raises the line's error once it is lost."""
        reply = await (await self.begin(message, descriptors))
        if reply is None:
            raise self.lost()
        return reply

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
        """Send a message. Raises the line's error once it is lost."""
        async with self._sending:
            while not self.closed.is_set():
                try:
                    wire.send(self._control, message, descriptors)
                except BlockingIOError:
                    await pipes.writable(self._control.fileno())
                except OSError:
                    self.close()
                else:
                    return
        raise self.lost()

    def post(self, message: dict[str, Any]) -> None:
        """Send a small message that needs no answer; a lost line is no error."""
        try:
            wire.send(self._control, message)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the line and tell everyone who waits. Idempotent."""
        if self.closed.is_set():
            return
        self.closed.set()
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        handlers, self._handlers = self._handlers, {}
        for handler in handlers.values():
            handler(None)

    def _on_readable(self) -> None:
        try:
            body, _, flags, _ = self._control.recvmsg(wire.MAX_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        reply = None if flags & socket.MSG_TRUNC else parse_reply(body)
        if reply is None:
            self.close()
            return
        handler = self._handlers.get(reply.id)
        if handler is not None:
            handler(reply)


def _resolve(replied: asyncio.Future[Reply | None], reply: Reply | None) -> None:
    if not replied.done():
        replied.set_result(reply)


def parse_reply(body: bytes) -> Reply | None:
    """Check the shape of a packet; None for what is no reply."""
    try:
        fields = json.loads(body)
        reply = Reply(**fields)
    except (ValueError, TypeError, RecursionError):
        return None
    return reply if _well_typed(reply) else None


def _well_typed(reply: Reply) -> bool:
    numbers = (
        reply.id,
        reply.code,
        reply.signal,
        reply.errno,
        reply.max_rss_bytes,
        reply.pid,
    )
    return (
        isinstance(reply.event, str)
        and reply.event in _EVENTS
        and isinstance(reply.step, str)
        and len(reply.step) <= _MAX_STEP_CHARS
        and isinstance(reply.as_root, bool)
        and all(isinstance(number, int) and 0 <= number < 1 << 63 for number in numbers)
    )
