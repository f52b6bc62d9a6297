"""A running command of a local sandbox, seen from the server."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from patchkiln.errors import SandboxError, SandboxFileError, SandboxLost
from patchkiln.ports.execution import Chunk, ExitReason, ExitStatus, Input, Stdin, TerminalSize
from patchkiln.sandboxes.local.channel import Channel, Reply
from patchkiln.sandboxes.local.commands import terminals
from patchkiln.sandboxes.local.commands.clock import Clock, Timer
from patchkiln.sandboxes.local.commands.outputs import Outputs
from patchkiln.sandboxes.local.commands.streams import Streams

KILL_GRACE_S = 10.0


class LocalExecution:
    """Implements `Execution` over its streams and the replies of the box's PID 1."""

    def __init__(
        self,
        channel: Channel,
        clock: Clock,
        streams: Streams,
        *,
        max_output_bytes: int,
        background: bool,
        on_closed: Callable[["LocalExecution"], None],
    ) -> None:
        """Take the box's line and clock, the streams, and the bound of the output."""
        self._channel = channel
        self._clock = clock
        self._streams = streams
        self._outputs = Outputs(
            streams.outputs,
            max_bytes=max_output_bytes,
            background=background,
            on_overflow=self._on_overflow,
        )
        self._background = background
        self._on_closed = on_closed
        self._number = channel.listen(self._on_reply)
        self._began = time.monotonic()
        self._timers: list[Timer] = []
        self._feeding: asyncio.Task[None] | None = None
        self._broken_input: BaseException | None = None
        self._takes_writes = False
        self._reason: ExitReason | None = None
        self._iterating = False
        loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[Reply | None] = loop.create_future()
        self._ended: asyncio.Future[ExitStatus | None] = loop.create_future()

    async def start(
        self, message: dict[str, Any], *, stdin: Input, timeout_s: float | None
    ) -> None:
        """Start the command.

        Where the message asks for a confirmation, raises `SandboxFileError` for a working directory
        that cannot be used; without one, the command starts sooner. Raises `SandboxLost`.
        """
        try:
            await self._send(message)
            if self._background:
                self._outputs.begin()
            self._begin_input(stdin)
            if message["confirm"]:
                _raise_refusal(await self._accepted)
        except BaseException:
            self._channel.post({"op": "kill", "id": self._number})
            self._end(None)
            raise
        if timeout_s is not None and not self._ended.done():
            end = partial(self._stop, ExitReason.TIMED_OUT)
            self._timers.append(self._clock.call_later(timeout_s, end))

    async def __aiter__(self) -> AsyncGenerator[Chunk]:
        """Yield output as it comes."""
        if self._iterating:
            raise RuntimeError("the command's output is being read by someone else")
        self._iterating = True
        try:
            async for chunk in self._outputs.follow():
                yield chunk
        finally:
            self._iterating = False
            self.close()
        await self._status()

    async def wait(self) -> ExitStatus:
        """Return how the command ended."""
        if not self._iterating and not self._background:
            async for _ in self:
                pass
        return await self._status()

    async def pid(self) -> int:
        """Return the number of the command's process inside the box."""
        # By the sandbox's clock: the first process of one that is paused answers once it goes on.
        timer = self._clock.call_later(KILL_GRACE_S, self._channel.close)
        try:
            reply = await self._channel.request({"op": "pid", "command": self._number})
        finally:
            timer.cancel()
        if reply.event != "done":
            raise SandboxError(
                "The command has no process.", remedy="Ask while the command is running."
            )
        return reply.pid

    async def write(self, data: bytes) -> None:
        """Write to the command's input."""
        if not self._takes_writes or self._streams.input is None:
            raise SandboxError(
                "The command was given its whole input at the start.",
                remedy="Start it with an open input, or on a terminal.",
            )
        if self._feeding is not None:
            await asyncio.wait([self._feeding])
        await self._streams.input.write(data)

    async def close_stdin(self) -> None:
        """End the command's input."""
        if self._takes_writes and self._streams.input is not None:
            await self._streams.input.finish()

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of the command's terminal."""
        if self._streams.terminal is None:
            raise SandboxError(
                "The command has no terminal.", remedy="Start it with one to change its size."
            )
        if self._streams.outputs[0].open:
            terminals.resize(self._streams.terminal, size)

    async def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        if number not in signal.valid_signals():
            raise ValueError(f"there is no signal {number}")
        if not self._ended.done():
            await self._channel.send({"op": "signal", "id": self._number, "signal": number})

    async def kill(self) -> None:
        """Kill the command and what is left of its session."""
        self._stop(ExitReason.KILLED)
        await asyncio.shield(self._ended)

    def close(self) -> None:
        """Close the reading ends; a terminal hangs up. Idempotent."""
        self._outputs.stop()
        if self._streams.terminal is not None and self._streams.input is not None:
            self._streams.input.close()
        self._on_closed(self)

    def close_unread(self) -> None:
        """Close the reading ends unless someone iterates, who closes them."""
        if not self._iterating:
            self.close()

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._channel.send({**message, "id": self._number}, self._streams.given)
        finally:
            self._streams.close_given()

    def _begin_input(self, stdin: Input) -> None:
        self._takes_writes = stdin is Stdin.OPEN or self._streams.terminal is not None
        if self._streams.input is not None and not isinstance(stdin, Stdin) and stdin != b"":
            self._feeding = asyncio.create_task(self._streams.input.feed(stdin))
            self._feeding.add_done_callback(self._on_fed)

    def _on_fed(self, feeding: "asyncio.Task[None]") -> None:
        """End a command whose input breaks off: it would take what it has for the whole."""
        if not feeding.cancelled() and feeding.exception() is not None:
            self._broken_input = feeding.exception()
            self._stop(ExitReason.KILLED)

    def _on_reply(self, reply: Reply | None) -> None:
        """Take a reply of PID 1; None when the sandbox is lost."""
        if not self._accepted.done():
            self._accepted.set_result(reply)
        if reply is None or reply.event == "ended":
            self._end(reply)

    def _on_overflow(self) -> None:
        self._stop(ExitReason.OUTPUT_LIMIT)

    async def _status(self) -> ExitStatus:
        status = self._ended.result() if self._ended.done() else await asyncio.shield(self._ended)
        if self._broken_input is not None:
            raise self._broken_input
        if status is None:
            raise _lost()
        if self._outputs.overflowed:
            # It may have ended before its output was read: what was read is cut all the same.
            return replace(status, reason=ExitReason.OUTPUT_LIMIT)
        return status

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
        if self._feeding is not None:
            self._feeding.cancel()
        self._channel.forget(self._number)
        duration_s = time.monotonic() - self._began
        self._outputs.note_end()
        self._ended.set_result(None if reply is None else self._judge(reply, duration_s))
        if self._streams.input is not None:
            self._streams.input.close()
        if reply is None:
            self.close_unread()
        elif self._background:
            self._on_closed(self)

    def _judge(self, reply: Reply, duration_s: float) -> ExitStatus:
        own_end = ExitReason.KILLED if reply.signal == signal.SIGKILL else ExitReason.EXITED
        return ExitStatus(
            exit_code=reply.code,
            reason=self._reason or own_end,
            duration_ms=round(duration_s * 1000),
            max_rss_bytes=reply.max_rss_bytes,
        )


def _raise_refusal(reply: Reply | None) -> None:
    if reply is None:
        raise _lost()
    if reply.event == "failed":
        text = f"The working directory cannot be used: {os.strerror(reply.errno)}."
        raise SandboxFileError(text, errno=reply.errno)


def _lost() -> SandboxLost:
    return SandboxLost("The sandbox ended under a command.")
