"""A command's output on its way from the box: read when it comes, kept in bounded memory."""

import asyncio
import errno
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from patchkiln.ports.execution import Chunk

DRAIN_S = 0.05
# Most commands are over so soon that to watch their output costs more than it brings.
_PATIENCE_S = 0.002
_BLOCK_BYTES = 1 << 16
_SMALL_BYTES = 1 << 12
# How much is read ahead of a reader who takes his time; then the command waits.
_AHEAD_BYTES = 1 << 18
# What prints without end in the background must not keep the loop from its other work.
_BURST_BYTES = 1 << 20
_REST_S = 0.01
# More than a terminal can hold, of which FIONREAD tells only a part.
_TERMINAL_BYTES = 1 << 17

StreamName: TypeAlias = Literal["stdout", "stderr"]


class ReadingEnd:
    """The reading end of one stream: of a pipe, or of a terminal."""

    def __init__(self, stream: StreamName, descriptor: int, *, terminal: bool = False) -> None:
        """Own a descriptor, which never blocks."""
        self.stream: StreamName = stream
        self.descriptor = descriptor
        self.open = True
        self._terminal = terminal
        self._watching: asyncio.AbstractEventLoop | None = None
        # What it held when the command ended: that much is delivered, however late.
        self.owed = 0

    def read(self, *, only_owed: bool) -> bytes:
        """Return what there is now, perhaps nothing; closes at the stream's end."""
        size = min(self.owed, _BLOCK_BYTES) if only_owed else _BLOCK_BYTES
        try:
            data = os.read(self.descriptor, size)
        except BlockingIOError:
            # The box can read its own pipe: then what was owed is gone.
            if only_owed:
                self.close()
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that nobody has open any more
                raise
            data = b""
        self.owed = max(self.owed - len(data), 0)
        if not data:
            self.close()
        return data

    def watch(self, callback: Callable[["ReadingEnd"], None]) -> None:
        """Call back whenever there is something to read, or the stream's end."""
        if self.open and self._watching is None:
            self._watching = asyncio.get_running_loop()
            self._watching.add_reader(self.descriptor, callback, self)

    def rest(self) -> None:
        """Call back no more."""
        if self._watching is not None:
            self._watching.remove_reader(self.descriptor)
            self._watching = None

    def note_end(self) -> None:
        """Note how much there is at the moment of the command's end."""
        if self._terminal:
            self.owed = _TERMINAL_BYTES
        elif self.open:
            held = fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0\0\0\0")
            self.owed = struct.unpack("i", held)[0]

    def close(self) -> None:
        """Close it. Idempotent."""
        self.rest()
        if self.open:
            self.open = False
            os.close(self.descriptor)


class Kept:
    """Output that nobody has taken yet, in the order in which it came.

    Small pieces of the same stream are joined. Past the bound ``full`` is true; where ``drops`` is
    set the oldest bytes are dropped instead.
    """

    def __init__(self, max_bytes: int, *, drops: bool) -> None:
        """Take the bound. What only stands between two pieces counts a little too."""
        self._max_bytes = max_bytes
        self._max_pieces = 1000 + max_bytes // (_SMALL_BYTES // 2)
        self._drops = drops
        self._pieces: deque[Chunk] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return bool(self._pieces)

    @property
    def full(self) -> bool:
        """Tell whether no more should come."""
        return not self._drops and self._overfull()

    def add(self, stream: StreamName, data: bytes) -> None:
        """Keep a piece."""
        last = self._pieces[-1] if self._pieces else None
        self._bytes += len(data)
        if last is not None and last.stream == stream and _joined_is_small(last.data, data):
            self._pieces[-1] = Chunk(stream=stream, data=last.data + data)
        else:
            self._pieces.append(Chunk(stream=stream, data=data))
        while self._drops and self._overfull():
            self._drop()

    def take(self) -> list[Chunk]:
        """Return all of it, which is kept no longer."""
        pieces = list(self._pieces)
        self._pieces.clear()
        self._bytes = 0
        return pieces

    def _overfull(self) -> bool:
        return self._bytes > self._max_bytes or len(self._pieces) > self._max_pieces

    def _drop(self) -> None:
        oldest = self._pieces.popleft()
        excess = self._bytes - self._max_bytes
        self._bytes -= len(oldest.data)
        if 0 < excess < len(oldest.data):
            rest = replace(oldest, data=oldest.data[excess:])
            self._bytes += len(rest.data)
            self._pieces.appendleft(rest)


class Outputs:
    """The streams of one command."""

    def __init__(
        self,
        ends: Sequence[ReadingEnd],
        *,
        max_bytes: int,
        background: bool,
        on_overflow: Callable[[], None],
    ) -> None:
        """Take the reading ends, and the bound.

        A background command's output is always read, and the last ``max_bytes`` of it are kept. Of
        any other ``max_bytes`` are handed out; when there is more, ``on_overflow`` is called.
        """
        self._ends = ends
        self._background = background
        self._room_bytes = max_bytes
        self._on_overflow = on_overflow
        self._kept = Kept(max_bytes if background else _AHEAD_BYTES, drops=background)
        self._burst_bytes = 0
        self._watched = False
        self._ended = False
        self._late = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def overflowed(self) -> bool:
        """Tell whether there was more than may be handed out."""
        return self._room_bytes < 0

    def begin(self) -> None:
        """Begin to read, or go on with it."""
        self._watched = True
        if not self._late:
            for end in self._ends:
                end.watch(self._on_readable)

    async def follow(self) -> AsyncGenerator[Chunk]:
        """Yield what comes, until the command is over and its streams have ended."""
        while True:
            for chunk in self._take():
                yield chunk
            if self._finished() and not self._kept:
                return
            if not self._kept and not self._late:
                await self._wait()

    def note_end(self) -> None:
        """Note that the command is over: what it left is read, and soon no more than that."""
        if self._ended:
            return
        if self._waiter is not None:
            # Its last words and the end of its streams are there by now.
            for end in self._ends:
                self._look(end)
        if self._any_open():
            for end in self._ends:
                end.note_end()
            if self._background:
                self._read_at_end()
            if self._waiter is not None:
                self.begin()
            self._set_timer(DRAIN_S, self._on_late)
        self._ended = True
        self._wake()

    def stop(self) -> None:
        """Close the streams; what was read stays. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        for end in self._ends:
            end.close()
        self._wake()

    def _finished(self) -> bool:
        return self._ended and not self._any_open()

    def _any_open(self) -> bool:
        return any(end.open for end in self._ends)

    def _take(self) -> list[Chunk]:
        if self._late and not self._kept:
            self._read_owed()
        return self._kept.take()

    def _on_late(self) -> None:
        self._late = True
        self._rest()
        if self._background:
            self._read_owed()
        self._wake()

    def _read_owed(self) -> None:
        """Read what is owed, as far as there is room; close what owes nothing."""
        for end in self._ends:
            while end.open and not self._kept.full:
                self._read(end, only_owed=True)

    def _read_at_end(self) -> None:
        """Read what the command left behind; what its children print comes later."""
        for end in self._ends:
            while end.open and end.owed:
                self._read(end, only_owed=True)

    def _on_readable(self, end: ReadingEnd) -> None:
        self._look(end)
        self._wake()

    def _look(self, end: ReadingEnd) -> None:
        """Read what there is, unless the reader has enough to do with what there was."""
        # A second look often finds the end of a stream that was short.
        if end.open and self._read(end, only_owed=False) and end.open:
            self._read(end, only_owed=False)
        if self._kept.full:
            self._rest()
        elif self._burst_bytes > _BURST_BYTES:
            self._burst_bytes = 0
            self._rest()
            self._set_timer(_REST_S, self.begin)

    def _read(self, end: ReadingEnd, *, only_owed: bool) -> bool:
        """Read a stream once; tell whether it has given all that it had."""
        data = end.read(only_owed=only_owed)
        if data:
            self._accept(end.stream, data)
        return len(data) < _BLOCK_BYTES

    def _accept(self, stream: StreamName, data: bytes) -> None:
        if self._background:
            self._burst_bytes += len(data)
            self._kept.add(stream, data)
            return
        if self._room_bytes > 0:
            self._kept.add(stream, data[: self._room_bytes])
        self._room_bytes -= len(data)
        if self._room_bytes < 0:
            self.stop()
            self._on_overflow()

    def _set_timer(self, after_s: float, callback: Callable[[], None]) -> None:
        """Call back once. There is one timer at a time; that after the command's end stays."""
        if not self._ended:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(after_s, callback)

    def _rest(self) -> None:
        for end in self._ends:
            end.rest()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        if not self._watched and not self._ended:
            self._set_timer(_PATIENCE_S, self.begin)
        else:
            self.begin()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        """Wake the reader, if there is something for him."""
        wanted = self._kept or self._late or self._finished()
        if wanted and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _joined_is_small(one: bytes, other: bytes) -> bool:
    return len(one) + len(other) <= _SMALL_BYTES
