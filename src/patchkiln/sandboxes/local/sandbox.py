"""One local sandbox, seen from the server."""

import asyncio
import itertools
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from patchkiln.domain.network import NetworkPolicy
from patchkiln.domain.patch import Patch
from patchkiln.errors import SandboxPaused
from patchkiln.ports.execution import DEFAULT_MAX_OUTPUT_BYTES, Input, TerminalSize
from patchkiln.ports.sandbox import WORKSPACE, FileInfo, SandboxMetrics, SandboxSpec, Snapshot
from patchkiln.sandboxes.local import pausing
from patchkiln.sandboxes.local.calls import FileCalls
from patchkiln.sandboxes.local.clock import Clock
from patchkiln.sandboxes.local.environment import environment, on_terminal
from patchkiln.sandboxes.local.execution import KILL_GRACE_S, LocalExecution
from patchkiln.sandboxes.local.gate import Gate
from patchkiln.sandboxes.local.generation import Generation
from patchkiln.sandboxes.local.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.listing import (
    MAX_ENTRY_BYTES,
    MAX_LISTING_BYTES,
    parse_entries,
    parse_entry,
    parse_path,
)
from patchkiln.sandboxes.local.streams import open_pipes, open_terminal
from patchkiln.sandboxes.local.terminals import Terminals


class Succession(Protocol):
    """What a sandbox needs of the others: where it goes on, comes from and ends."""

    async def review(self, spec: SandboxSpec, generation: Generation) -> Patch:
        """Compare a box's layers with the base, in a fresh box."""
        ...

    async def seal(
        self, spec: SandboxSpec, generation: Generation, successor: str
    ) -> tuple[Snapshot, Generation]:
        """Keep a box's layers as a snapshot, and make the box in which its sandbox goes on."""
        ...

    async def fork(
        self, spec: SandboxSpec, snapshot: Snapshot, count: int
    ) -> Sequence["LocalSandbox"]:
        """Make sandboxes as a spec says from a snapshot, all or none."""
        ...

    def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot. Idempotent."""
        ...

    async def end(self, generation: Generation) -> None:
        """End a box and wait until nothing of it is left. Idempotent."""
        ...

    def forget(self, sandbox_id: str) -> None:
        """Let a destroyed sandbox's id be used again."""
        ...


class LocalSandbox:
    """Implements `Sandbox` over the line to the PID 1 of the box that it lives in now."""

    def __init__(
        self,
        spec: SandboxSpec,
        generation: Generation,
        succession: Succession,
        *,
        own_python: Path | None,
    ) -> None:
        """Take what it was asked to be, its first box, and the interpreter that it was lent."""
        self._spec = spec
        self._succession = succession
        self._env = environment(own_python=own_python is not None)
        self._give_pipe = _give_pipe if generation.zygote.as_root else _keep_pipe
        self._gate = Gate()
        self._clock = Clock()
        self._pausing = asyncio.Lock()
        self._paused = False
        self._terminals = Terminals(generation.channel)
        # What the box's commands are known to find in their environment.
        self._told_env: dict[str, str] | None = None
        self._executions: set[LocalExecution] = set()
        self._generations = itertools.count(1)
        self._live_in(generation)
        # A task of its own, which the end of the sandbox calls off.
        self._sealing: asyncio.Task[tuple[Snapshot, Generation]] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._destroying: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """Return the id that the spec named."""
        return self._spec.id

    def is_alive(self) -> bool:
        """Tell whether it can still be asked for anything."""
        ended = self._channel.closed.is_set() or not self.generation.zygote.running
        return self._destroying is None and not ended

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
                streams = open_pipes(self._give_pipe, with_input=stdin != b"")
            else:
                streams = await open_terminal(self._terminals, terminal)
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

    async def diff(self) -> Patch:
        """Compare with the base in a fresh box."""
        # First for those inside, who may wait for what the box stopped; then for what they began.
        async with self._gate.alone(self._kill_all):
            await self._kill_all()
            return await self._succession.review(self._spec, self.generation)

    async def snapshot(self) -> Snapshot:
        """Keep the files, and go on in a new box above them."""
        async with self._gate.alone(self._kill_all):
            await self._kill_all()
            snapshot, left = await self._seal()
        self._leaving = asyncio.create_task(self._leave(left, self._leaving))
        return snapshot

    async def fork(self, count: int = 1) -> Sequence["LocalSandbox"]:
        """Make sandboxes with the same files."""
        snapshot = await self.snapshot()
        try:
            return await self._succession.fork(self._spec, snapshot, count)
        finally:
            self._succession.remove_snapshot(snapshot.id)

    async def pause(self) -> None:
        """Stop every process where it stands, and the clocks of commands with them."""
        async with self._pausing:
            if self._paused:
                return
            async with self._gate.alone(_nobody):
                await pausing.pause(self.generation)
                self._paused = True
                self._clock.stop()
                self._gate.shut(SandboxPaused, "The sandbox is paused.")

    async def resume(self) -> None:
        """Let what was paused go on."""
        async with self._pausing:
            if not self._paused:
                self._raise_if_lost()
                return
            await pausing.resume(self.generation)
            self._unpause()

    async def metrics(self) -> SandboxMetrics:
        """Return what the box and the layers below it use."""
        self._raise_if_lost()
        return await pausing.measure(self.generation, self._spec.limits, paused=self._paused)

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Put another policy in force, here and in what comes after this box."""
        async with self._gate.together():
            self._spec = replace(self._spec, network=policy)
            await self.generation.network.set_policy(policy)

    async def destroy(self) -> None:
        """End the box; all who call wait for the same end."""
        if self._destroying is None:
            self._destroying = asyncio.create_task(self._destroy())
        await asyncio.shield(self._destroying)

    def _usual_environment(self) -> dict[str, str]:
        return {**self._env, **self.generation.network.environment, **self._spec.env}

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

    def _live_in(self, generation: Generation) -> None:
        self.generation = generation
        self._channel = generation.channel
        self._files = FileCalls(generation.channel)
        self._told_env = None
        self._terminals.close()
        self._terminals = Terminals(generation.channel)

    async def _seal(self) -> tuple[Snapshot, Generation]:
        """Seal the box's layer; return the snapshot, and the box that the sandbox has left."""
        self._raise_if_lost()
        name = f"{self.id}.{next(self._generations)}"
        self._sealing = asyncio.create_task(
            self._succession.seal(self._spec, self.generation, name)
        )
        try:
            await asyncio.wait([self._sealing])
        except asyncio.CancelledError:
            await self._undo(self._sealing)
            raise
        finally:
            sealing, self._sealing = self._sealing, None
        if not self.is_alive():
            await self._undo(sealing)
            raise self._channel.lost()
        snapshot, successor = sealing.result()
        old = self.generation
        self._live_in(successor)
        return snapshot, old

    async def _leave(self, left: Generation, before: asyncio.Task[None] | None) -> None:
        """End a box that the sandbox has left; none but its destruction waits for that."""
        await self._succession.end(left)
        if before is not None:
            await before

    async def _undo(self, sealing: asyncio.Task[tuple[Snapshot, Generation]]) -> None:
        sealing.cancel()
        await asyncio.wait([sealing])
        if not sealing.cancelled() and sealing.exception() is None:
            snapshot, successor = sealing.result()
            self._succession.remove_snapshot(snapshot.id)
            await self._succession.end(successor)

    async def _destroy(self) -> None:
        self._channel.close()
        self._unpause()
        if self._sealing is not None:
            await self._undo(self._sealing)
        for execution in list(self._executions):
            execution.close_unread()
        self._terminals.close()
        await self._succession.end(self.generation)
        if self._leaving is not None:
            await self._leaving
        self._succession.forget(self.id)

    async def _ask(self, operation: str, path: str, max_bytes: int = MAX_ENTRY_BYTES) -> bytes:
        async with self._gate.together():
            return await self._files.fetch({"op": operation, "path": _absolute(path)}, max_bytes)


async def _nobody() -> None:
    """Make nobody leave: those inside go by themselves."""


def _absolute(path: str) -> str:
    return WORKSPACE if path == "." else posixpath.join(WORKSPACE, path)


def _give_pipe(descriptor: int) -> None:
    """Let the box own a pipe, or no command could open its /dev/stderr."""
    os.fchown(descriptor, HOST_UID, HOST_GID)


def _keep_pipe(descriptor: int) -> None:
    """Leave a pipe as it is: the server's user is the box's."""
    del descriptor
