"""A server in small: makes local sandboxes for the tests that drive it over stdin and stdout.

A process of its own, so that the same tests can look at sandboxes that root started, and at those
of an ordinary user. One JSON object a line, each answered by one.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from patchkiln.domain.network import Credential, NetworkPolicy, NetworkRule
from patchkiln.domain.repository import Checkout
from patchkiln.errors import PatchkilnError
from patchkiln.ports.execution import Chunk, TerminalSize, capture
from patchkiln.ports.sandbox import (
    HostMount,
    Sandbox,
    SandboxLimits,
    SandboxSpec,
    new_sandbox_id,
)
from patchkiln.sandboxes.local.maker import Maker
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.security import conditions


class Driver:
    """Answers requests."""

    def __init__(self, data_dir: Path, maker: Maker | None) -> None:
        """Take the provider's data directory, and who makes its namespaces."""
        self._provider = LocalSandboxes(data_dir, maker)
        self._boxes: dict[str, Sandbox] = {}
        self._stalled: list[AsyncIterator[Chunk]] = []

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request; an error of ours is an answer."""
        operation = getattr(self, f"do_{request.pop('op')}")
        try:
            return dict(await operation(**request))
        except PatchkilnError as error:
            return {"error": type(error).__name__, "message": error.message}

    async def do_isolation(self) -> dict[str, Any]:
        """Run the self-test."""
        isolation = await self._provider.isolation()
        return {
            "level": isolation.level,
            "reason": isolation.reason,
            "remedy": isolation.remedy,
            "facts": dict(isolation.facts),
            "pid": os.getpid(),
        }

    async def do_create(
        self,
        limits: dict[str, int],
        base: str | None,
        mounts: list[dict[str, Any]],
        network: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """Make a sandbox."""
        spec = SandboxSpec(
            id=new_sandbox_id(),
            base=None if base is None else _checkout(Path(base)),
            limits=SandboxLimits(**limits),
            mounts=tuple(HostMount(source=Path(entry.pop("source")), **entry) for entry in mounts),
            network=NetworkPolicy(rules=tuple(map(_rule, network))),
        )
        self._boxes[spec.id] = await self._provider.create(spec)
        return {"box": spec.id}

    async def do_run(
        self, box: str, argv: list[str], timeout_s: float, stdin_bytes: int
    ) -> dict[str, Any]:
        """Run a command to its end."""
        stdin = bytes(stdin_bytes)
        output = await capture(await self._boxes[box].exec(argv, timeout_s=timeout_s, stdin=stdin))
        return {
            "exit_code": output.status.exit_code,
            "reason": output.status.reason,
            "stdout": output.stdout.decode(errors="replace"),
            "stderr": output.stderr.decode(errors="replace"),
        }

    async def do_show(self, box: str, argv: list[str], timeout_s: float) -> dict[str, Any]:
        """Run a command to its end on a terminal."""
        execution = await self._boxes[box].exec(argv, timeout_s=timeout_s, terminal=TerminalSize())
        return {"text": (await capture(execution)).stdout.decode(errors="replace")}

    async def do_stall(self, box: str, argv: list[str]) -> dict[str, Any]:
        """Start a command and read one piece of its output, no more."""
        stream = aiter(await self._boxes[box].exec(argv))
        self._stalled.append(stream)
        await anext(stream)
        return {}

    async def do_read(self, box: str, path: str) -> dict[str, Any]:
        """Read a file through the sandbox's own call."""
        data = await self._boxes[box].read(path, max_bytes=1 << 20)
        return {"text": data.decode(errors="replace")}

    async def do_fork(self, box: str, count: int) -> dict[str, Any]:
        """Fork a sandbox."""
        children = await self._boxes[box].fork(count)
        self._boxes |= {child.id: child for child in children}
        return {"boxes": [child.id for child in children]}

    async def do_pause(self, box: str) -> dict[str, Any]:
        """Pause a sandbox."""
        await self._boxes[box].pause()
        return {}

    async def do_resume(self, box: str) -> dict[str, Any]:
        """Let a sandbox go on."""
        await self._boxes[box].resume()
        return {}

    async def do_metrics(self, box: str) -> dict[str, Any]:
        """Measure a sandbox."""
        return asdict(await self._boxes[box].metrics())

    async def do_start(self, box: str, argv: list[str]) -> dict[str, Any]:
        """Start a command that nobody waits for."""
        await self._boxes[box].exec(argv)
        return {}

    async def do_allow(self, kind: str, count: int) -> dict[str, Any]:
        """Allow so many namespaces of a kind, where the counts are the driver's own."""
        conditions.allow(kind, count)
        return {}

    async def do_destroy(self, box: str) -> dict[str, Any]:
        """Destroy a sandbox."""
        await self._boxes.pop(box).destroy()
        return {}

    async def close(self) -> None:
        """Destroy all that is left."""
        await self._provider.close()


def _rule(entry: dict[str, Any]) -> NetworkRule:
    credential = entry.pop("credential", None)
    return NetworkRule(**entry, credential=Credential(**credential) if credential else None)


def _checkout(path: Path) -> Checkout:
    return Checkout(
        repository="example",
        commit="0" * 40,
        branch="main",
        path=path,
        file_count=1,
        size_bytes=1,
        cached=True,
    )


async def serve(data_dir: Path, maker: Maker | None) -> None:
    """Answer until stdin ends."""
    driver = Driver(data_dir, maker)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer = await driver.answer(json.loads(line))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await driver.close()


if __name__ == "__main__":
    if os.getuid() == 0:
        conditions.prepare(sys.argv[1], sys.argv[2:])
    conditions.narrow(sys.argv[2:])
    asyncio.run(serve(Path(sys.argv[1]), Maker.BUBBLEWRAP if "bwrap" in sys.argv[2:] else None))
