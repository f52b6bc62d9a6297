"""Real local sandboxes for tests whose subject is something else."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from patchkiln.ports.sandbox import Sandbox, SandboxProvider, SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local.provider import LocalSandboxes


@asynccontextmanager
async def lent_provider(data_dir: Path) -> AsyncGenerator[SandboxProvider]:
    """Lend a provider; its start is the slow part, a box of it is not."""
    provider = LocalSandboxes(data_dir)
    try:
        yield provider
    finally:
        await provider.close()


@asynccontextmanager
async def lent_box(
    provider: SandboxProvider, files: Mapping[str, str] | None = None
) -> AsyncGenerator[Sandbox]:
    """Lend a sandbox whose workspace holds the given files, by path."""
    sandbox = await provider.create(SandboxSpec(id=new_sandbox_id()))
    try:
        for path, text in (files or {}).items():
            await sandbox.write(path, text.encode())
        yield sandbox
    finally:
        await sandbox.destroy()
