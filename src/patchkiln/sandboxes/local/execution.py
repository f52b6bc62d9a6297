"""A running command of a local sandbox, seen from the server."""

import asyncio
import fcntl
import os
import signal
import struct
import termios
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

from patchkiln.errors import SandboxFileError, SandboxLost
from patchkiln.ports.execution import Chunk, ExitReason, ExitStatus
from patchkiln.sandboxes.local import pipes
from patchkiln.sandboxes.local.channel import Channel, Reply
from patchkiln.sandboxes.local.clock import Clock, Timer

DRAIN_S = 0.05
KILL_GRACE_S = 10.0
_BLOCK_BYTES = 1 << 16
_ROUNDS_A_REST = 8

StreamName: TypeAlias = Literal["stdout", "stderr"]


class _Output:
    """The reading end of one stream."""

    def __init__(self, stream: StreamName, descriptor: int) -> None:
        self.stream: StreamName = stream
        self.descriptor = descriptor
        self.open = True
        # What the pipe held when the command ended: that much is delivered, however late.
        self.owed = 0

    def read(self, *, only_owed: bool) -> bytes:
        """Return what there is now, perhaps nothing; closes at the stream's end."""
        size = min(self.owed, _BLOCK_BYTES) if only_owed else _BLOCK_BYTES
        if not self.open or not size:
            return b""
        try:
            data = os.read(self.descriptor, size)
        except BlockingIOError:
            # The box can read its own pipe: then what was owed is gone.
            self.owed = 0 if only_owed else self.owed
            return b""
        self.owed = max(self.owed - len(data), 0)
        if not data:
            self.close()
        return data

    def note_end(self) -> None:
        if self.open:
            held = fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0\0\0\0")
            self.owed = struct.unpack("i", held)[0]

    def close(self) -> None:
        if self.open:
            self.open = False
            os.close(self.descriptor)


class LocalExecution:
    """Implements `Execution` over two pipes and the replies of the box's PID 1."""

    def __init__(
        self,
        channel: Channel,
        clock: Clock,
        *,
        max_output_bytes: int,
        give_pipe: Callable[[int], None],
        on_closed: Callable[["LocalExecution"], None],
    ) -> None:
        """Take the box's line and clock, the bound, and what makes a pipe the box's own."""
        self._channel = channel
        self._clock = clock
        self._room_bytes = max_output_bytes
        self._give_pipe = give_pipe
        self._on_closed = on_closed
        self._outputs: tuple[_Output, ...] = ()
        self._number = channel.listen(self._on_reply)
        self._began = time.monotonic()
        self._drain_until = 0.0
        self._timers: list[Timer] = []
        self._stdin: asyncio.Task[None] | None = None
        self._reason: ExitReason | None = None
        self._iterated = False
        loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[Reply | None] = loop.create_future()
        self._ended: asyncio.Future[ExitStatus | None] = loop.create_future()
        self._news = asyncio.Event()

    async def start(
        self,
        message: dict[str, Any],
        *,
        stdin: bytes | AsyncIterable[bytes],
        timeout_s: float | None,
    ) -> None:
        """Start the command.

        Where the message asks for a confirmation, raises `SandboxFileError` for a working directory
        that cannot be used; without one, the command starts sooner. Raises `SandboxLost`.
        """
        try:
            await self._send(message, stdin)
            if message["confirm"]:
                _raise_refusal(await self._accepted)
        except BaseException:
            self._channel.post({"op": "kill", "id": self._number})
            self._end(None)
            raise
        if timeout_s is not None and not self._ended.done():
            end = partial(self._stop, ExitReason.TIMED_OUT)
            self._timers.append(self._clock.call_later(timeout_s, end))

    async def _send(self, message: dict[str, Any], stdin: bytes | AsyncIterable[bytes]) -> None:
        given: list[int] = []
        try:
            if stdin != b"":
                given.append(self._open_stdin(stdin))
            given += [self._open_output("stdout"), self._open_output("stderr")]
            await self._channel.send({**message, "id": self._number}, given)
        finally:
            for descriptor in given:
                os.close(descriptor)

    def _open_output(self, stream: StreamName) -> int:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        self._give_pipe(theirs)
        self._outputs = (*self._outputs, _Output(stream, ours))
        return theirs

    def _open_stdin(self, stdin: bytes | AsyncIterable[bytes]) -> int:
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        self._give_pipe(theirs)
        self._stdin = asyncio.create_task(_feed(ours, stdin))
        return theirs

    def _on_reply(self, reply: Reply | None) -> None:
        """Take a reply of PID 1; None when the sandbox is lost."""
        if not self._accepted.done():
            self._accepted.set_result(reply)
        if reply is None or reply.event == "ended":
            self._end(reply)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield output as it comes."""
        self._iterated = True
        rounds = 0
        try:
            while self._has_more():
                chunks = self._read_once()
                for chunk in chunks:
                    yield chunk
                rounds += 1
                if not chunks:
                    await self._wait_for_more()
                elif rounds % _ROUNDS_A_REST == 0:
                    # What prints without end must not keep the loop from its other work.
                    await asyncio.sleep(0)
        finally:
            self.close()
        await self._status()

    async def wait(self) -> ExitStatus:
        """Return how the command ended."""
        if any(output.open for output in self._outputs):
            async for _ in self:
                pass
        return await self._status()

    async def kill(self) -> None:
        """Kill the command and what is left of its session."""
        self._stop(ExitReason.KILLED)
        await asyncio.shield(self._ended)

    def close(self) -> None:
        """Close the reading ends. Idempotent."""
        for output in self._outputs:
            output.close()
        self._on_closed(self)

    def close_unread(self) -> None:
        """Close the reading ends unless someone iterates, who closes them."""
        if not self._iterated:
            self.close()

    async def _status(self) -> ExitStatus:
        status = await asyncio.shield(self._ended)
        if status is None:
            raise _lost()
        if self._room_bytes < 0:
            # It may have ended before its output was read: what was read is cut all the same.
            return replace(status, reason=ExitReason.OUTPUT_LIMIT)
        return status

    def _has_more(self) -> bool:
        if not self._ended.done():
            return True
        late = time.monotonic() >= self._drain_until
        return any(output.open and (output.owed or not late) for output in self._outputs)

    def _read_once(self) -> list[Chunk]:
        """Read each stream once; past the bound the command is killed and its output ends."""
        late = self._ended.done() and time.monotonic() >= self._drain_until
        chunks: list[Chunk] = []
        for output in self._outputs:
            data = output.read(only_owed=late)
            kept = data[: max(self._room_bytes, 0)]
            self._room_bytes -= len(data)
            if kept:
                chunks.append(Chunk(stream=output.stream, data=kept))
        if self._room_bytes < 0:
            self._stop(ExitReason.OUTPUT_LIMIT)
            self.close()
        return chunks

    async def _wait_for_more(self) -> None:
        """Wait for output, for the command's end, or after that for the last of its output."""
        if not self._has_more():
            return
        self._news.clear()
        loop = asyncio.get_running_loop()
        waited = [output.descriptor for output in self._outputs if output.open]
        for descriptor in waited:
            loop.add_reader(descriptor, self._news.set)
        remaining_s = self._drain_until - time.monotonic() if self._ended.done() else None
        try:
            async with asyncio.timeout(remaining_s):
                await self._news.wait()
        except TimeoutError:
            return
        finally:
            for descriptor in waited:
                loop.remove_reader(descriptor)

    def _stop(self, reason: ExitReason) -> None:
        if not self._ended.done():
            self._reason = self._reason or reason
            # Whatever withstands SIGKILL for that long takes the sandbox with it.
            self._timers.append(self._clock.call_later(KILL_GRACE_S, self._channel.close))
        self._channel.post({"op": "kill", "id": self._number})

    def _end(self, reply: Reply | None) -> None:
        if self._ended.done():
            return
        for timer in self._timers:
            timer.cancel()
        if self._stdin is not None:
            self._stdin.cancel()
        self._channel.forget(self._number)
        now = time.monotonic()
        self._drain_until = now + DRAIN_S
        for output in self._outputs:
            output.note_end()
        self._ended.set_result(None if reply is None else self._judge(reply, now - self._began))
        self._news.set()
        if reply is None:
            self.close_unread()

    def _judge(self, reply: Reply, duration_s: float) -> ExitStatus:
        own_end = ExitReason.KILLED if reply.signal == signal.SIGKILL else ExitReason.EXITED
        return ExitStatus(
            exit_code=reply.code,
            reason=self._reason or own_end,
            duration_ms=round(duration_s * 1000),
            max_rss_bytes=reply.max_rss_bytes,
        )


async def _feed(descriptor: int, stdin: bytes | AsyncIterable[bytes]) -> None:
    try:
        if isinstance(stdin, bytes):
            await pipes.write_to_end(descriptor, stdin)
            return
        async for block in stdin:
            if not await pipes.write_to_end(descriptor, block):
                return
    finally:
        os.close(descriptor)


def _raise_refusal(reply: Reply | None) -> None:
    if reply is None:
        raise _lost()
    if reply.event == "failed":
        text = f"The working directory cannot be used: {os.strerror(reply.errno)}."
        raise SandboxFileError(text, errno=reply.errno)


def _lost() -> SandboxLost:
    return SandboxLost("The sandbox ended under a command.")
