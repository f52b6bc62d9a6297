"""One local sandbox, seen from the server."""

import asyncio
import posixpath
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence

from patchkiln.domain.patch import Patch
from patchkiln.ports.execution import DEFAULT_MAX_OUTPUT_BYTES
from patchkiln.ports.sandbox import WORKSPACE, FileInfo
from patchkiln.sandboxes.local.calls import FileCalls
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.execution import KILL_GRACE_S, LocalExecution
from patchkiln.sandboxes.local.gate import Gate
from patchkiln.sandboxes.local.listing import (
    MAX_ENTRY_BYTES,
    MAX_LISTING_BYTES,
    parse_entries,
    parse_entry,
    parse_path,
)
from patchkiln.sandboxes.local.network import Gateway


class LocalSandbox:
    """Implements `Sandbox` over the line to the box's PID 1."""

    def __init__(
        self,
        sandbox_id: str,
        channel: Channel,
        gateway: Gateway,
        *,
        env: Mapping[str, str],
        give_pipe: Callable[[int], None],
        end: Callable[[], Awaitable[None]],
        review: Callable[[], Awaitable[Patch]],
    ) -> None:
        """Take the line and, from the provider, what ends the box and what reviews its layer."""
        self._id = sandbox_id
        self._channel = channel
        self._gateway = gateway
        self._env = dict(env)
        self._give_pipe = give_pipe
        self._end = end
        self._review = review
        self._gate = Gate()
        self._files = FileCalls(channel)
        self._executions: set[LocalExecution] = set()
        self._destroying: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """Return the id that the spec named."""
        return self._id

    @property
    def network_refusals(self) -> list[str]:
        """Return ``host:port: reason`` for what the box asked for and did not get."""
        return list(self._gateway.refusals)

    async def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str = WORKSPACE,
        env: Mapping[str, str] | None = None,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_s: float | None = None,
        max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
    ) -> LocalExecution:
        """Start a command."""
        if not argv:
            raise ValueError("a command needs the name of a program")
        message = {
            "op": "exec",
            "argv": list(argv),
            "env": {**self._env, **(env or {})},
            "cwd": _absolute(cwd),
            # The workspace is always there: nothing to wait for.
            "confirm": cwd != WORKSPACE,
        }
        async with self._gate.together():
            execution = LocalExecution(
                self._channel,
                max_output_bytes=max_output_bytes,
                give_pipe=self._give_pipe,
                on_closed=self._executions.discard,
            )
            self._executions.add(execution)
            await execution.start(message, stdin=stdin, timeout_s=timeout_s)
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

    async def diff(self) -> Patch:
        """Compare with the base in a fresh box."""
        # First for those inside, who may wait for what the box stopped; then for what they began.
        async with self._gate.alone(self._kill_all):
            await self._kill_all()
            return await self._review()

    async def destroy(self) -> None:
        """End the box; all who call wait for the same end."""
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

    async def _destroy(self) -> None:
        self._channel.close()
        for execution in list(self._executions):
            execution.close_unread()
        await self._gateway.close()
        await self._end()

    async def _ask(self, operation: str, path: str, max_bytes: int = MAX_ENTRY_BYTES) -> bytes:
        async with self._gate.together():
            return await self._files.fetch({"op": operation, "path": _absolute(path)}, max_bytes)


def _absolute(path: str) -> str:
    return WORKSPACE if path == "." else posixpath.join(WORKSPACE, path)
