"""Making sandboxes and running commands in them, in as few words as tests like."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from patchkiln.domain.repository import Checkout
from patchkiln.errors import SandboxUnsupported
from patchkiln.ports.execution import CapturedOutput, capture
from patchkiln.ports.sandbox import (
    Capability,
    Sandbox,
    SandboxProvider,
    SandboxSpec,
    new_sandbox_id,
)

TIMEOUT_S = 60.0


async def make(provider: SandboxProvider, **fields: Any) -> Sandbox:
    """Make a sandbox whose spec has these fields."""
    return await provider.create(SandboxSpec(id=new_sandbox_id(), **fields))


async def run(sandbox: Sandbox, *argv: str, **options: Any) -> CapturedOutput:
    """Run a command to its end."""
    options.setdefault("timeout_s", TIMEOUT_S)
    return await capture(await sandbox.exec(argv, **options))


async def sh(sandbox: Sandbox, script: str, **options: Any) -> CapturedOutput:
    """Run a shell script to its end."""
    return await run(sandbox, "/bin/sh", "-c", script, **options)


async def text(sandbox: Sandbox, script: str, **options: Any) -> str:
    """Return what a shell script prints, which must succeed."""
    output = await sh(sandbox, script, **options)
    assert output.status.exit_code == 0, output
    return output.stdout.decode().strip()


async def lacks(
    provider: SandboxProvider, capability: Capability, use: Callable[[], Awaitable[object]]
) -> bool:
    """Tell whether a provider declares that it lacks a capability; using it must then say so."""
    if capability in provider.capabilities:
        return False
    with pytest.raises(SandboxUnsupported):
        await use()
    return True


def checkout_at(path: Path) -> Checkout:
    """Describe a directory as a checkout."""
    return Checkout(
        repository="example",
        commit="0" * 40,
        branch="main",
        path=path,
        file_count=2,
        size_bytes=100,
        cached=True,
    )
