"""What a sandbox does over the line to its PID 1, whoever made the namespaces around that."""

import asyncio
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from patchkiln.errors import SandboxError, SandboxPaused
from patchkiln.ports.execution import DEFAULT_MAX_OUTPUT_BYTES, Input, TerminalSize
from patchkiln.ports.sandbox import WORKSPACE, FileInfo
from patchkiln.sandboxes.local.calls import FileCalls
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.commands.clock import Clock
from patchkiln.sandboxes.local.commands.execution import KILL_GRACE_S, LocalExecution
from patchkiln.sandboxes.local.commands.streams import open_pipes, open_terminal
from patchkiln.sandboxes.local.commands.terminals import Terminals
from patchkiln.sandboxes.local.environment import on_terminal
from patchkiln.sandboxes.local.gate import Gate
from patchkiln.sandboxes.local.listing import (
    MAX_ENTRY_BYTES,
    MAX_LISTING_BYTES,
    parse_entries,
    parse_entry,
    parse_path,
)


class LinedSandbox:
    """Commands, files and pausing; where the files come from and go is for its heirs to say."""

    def __init__(
        self,
        sandbox_id: str,
        channel: Channel,
        *,
        env: Mapping[str, str],
        give_end: Callable[[int], None],
    ) -> None:
        """Take the line, the environment of commands, and what makes a stream's end their own."""
        self._id = sandbox_id
        self._env = dict(env)
        self._give_end = give_end
        self._gate = Gate()
        self._clock = Clock()
        self._pausing = asyncio.Lock()
        self._paused = False
        # What commands are known to find in their environment.
        self._told_env: dict[str, str] | None = None
        self._executions: set[LocalExecution] = set()
        self._destroying: asyncio.Task[None] | None = None
        self._channel = channel
        self._files = FileCalls(channel)
        self._terminals = Terminals(channel)

    @property
    def id(self) -> str:
        """Return the id that the spec named."""
        return self._id

    def is_alive(self) -> bool:
        """Tell whether it can still be asked for anything."""
        return self._destroying is None and not self._channel.closed.is_set()

    async def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str = WORKSPACE,
        env: Mapping[str, str] | None = None,
        stdin: Input = b"",
        timeout_s: float | None = None,
        max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
        terminal: TerminalSize | None = None,
        background: bool = False,
    ) -> LocalExecution:
        """Start a command."""
        if not argv:
            raise ValueError("a command needs the name of a program")
        async with self._gate.together():
            usual = self._usual_environment()
            message: dict[str, Any] = {
                "op": "exec",
                "argv": list(argv),
                "env": {**({} if terminal is None else on_terminal(usual)), **(env or {})},
                "cwd": _absolute(cwd),
                # The workspace is always there: nothing to wait for.
                "confirm": cwd != WORKSPACE,
                "terminal": terminal is not None,
            }
            if usual != self._told_env:
                message["usual"] = usual
            if terminal is None:
                streams = open_pipes(self._give_end, with_input=stdin != b"")
            else:
                streams = await open_terminal(self._terminals, terminal)
                self._give_end(streams.given[0])
            execution = LocalExecution(
                self._channel,
                self._clock,
                streams,
                max_output_bytes=max_output_bytes,
                background=background,
                on_closed=self._executions.discard,
            )
            self._executions.add(execution)
            await execution.start(message, stdin=stdin, timeout_s=timeout_s)
            self._told_env = usual
        return execution

    async def read(self, path: str, *, max_bytes: int) -> bytes:
        """Return a regular file's bytes."""
        request = {"op": "read", "path": _absolute(path), "max_bytes": max_bytes}
        async with self._gate.together():
            return await self._files.fetch(request, max_bytes)

    async def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Replace a file's bytes."""
        request = {"op": "write", "path": _absolute(path), "size": len(data), "mode": mode}
        async with self._gate.together():
            await self._files.deliver(request, data)

    async def list(self, path: str) -> list[FileInfo]:
        """Return the entries of a directory."""
        listing = await self._ask("list", path, MAX_LISTING_BYTES)
        return await asyncio.to_thread(parse_entries, listing, _absolute(path))

    async def stat(self, path: str) -> FileInfo:
        """Describe one path."""
        return parse_entry(await self._ask("stat", path))

    async def realpath(self, path: str) -> str:
        """Resolve symlinks."""
        return parse_path(await self._ask("realpath", path))

    async def make_directory(self, path: str) -> None:
        """Make a directory and its parents."""
        await self._ask("make_directory", path)

    async def remove(self, path: str) -> None:
        """Delete a file or a tree."""
        await self._ask("remove", path)

    async def pause(self) -> None:
        """Stop every process where it stands, and the clocks of commands with them."""
        async with self._pausing:
            if self._paused:
                return
            async with self._gate.alone(_nobody):
                await self._freeze()
                self._paused = True
                self._clock.stop()
                self._gate.shut(SandboxPaused, "The sandbox is paused.")

    async def resume(self) -> None:
        """Let what was paused go on."""
        async with self._pausing:
            if not self._paused:
                self._raise_if_lost()
                return
            await self._thaw()
            self._unpause()

    async def destroy(self) -> None:
        """End it; all who call wait for the same end."""
        if self._destroying is None:
            self._destroying = asyncio.create_task(self._destroy())
        await asyncio.shield(self._destroying)

    async def _kill_all(self) -> None:
        try:
            async with asyncio.timeout(KILL_GRACE_S):
                await self._channel.request({"op": "kill_all"})
        except TimeoutError as error:
            self._channel.close()
            raise self._channel.lost() from error

    def _unpause(self) -> None:
        self._paused = False
        self._clock.go()
        self._gate.open()

    def _raise_if_lost(self) -> None:
        if not self.is_alive():
            raise self._channel.lost()

    def _usual_environment(self) -> dict[str, str]:
        """Return the variables of every command."""
        return self._env

    async def _freeze(self) -> None:
        """Let PID 1 stop every other process."""
        reply = await self._channel.request({"op": "stop"})
        if reply.event != "done":
            raise SandboxError(
                "A process of the sandbox could not be stopped.",
                remedy="Try again, or destroy it.",
            )

    async def _thaw(self) -> None:
        await self._channel.request({"op": "continue"})

    async def _destroy(self) -> None:
        self._close_line()

    def _live_over(self, channel: Channel) -> None:
        self._told_env = None
        self._terminals.close()
        self._channel = channel
        self._files = FileCalls(channel)
        self._terminals = Terminals(channel)

    def _close_line(self) -> None:
        """Close the line, and what nobody reads of it."""
        self._channel.close()
        self._unpause()
        for execution in list(self._executions):
            execution.close_unread()
        self._terminals.close()

    async def _ask(self, operation: str, path: str, max_bytes: int = MAX_ENTRY_BYTES) -> bytes:
        async with self._gate.together():
            return await self._files.fetch({"op": operation, "path": _absolute(path)}, max_bytes)


async def _nobody() -> None:
    """Make nobody leave: those inside go by themselves."""


def _absolute(path: str) -> str:
    return WORKSPACE if path == "." else posixpath.join(WORKSPACE, path)
