"""Every provider that passes the contract of `patchkiln.ports.sandbox`, one parameter each."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from patchkiln.ports.sandbox import Sandbox, SandboxProvider
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.contract.sandbox.making import make


@pytest_asyncio.fixture(params=["local"], scope="package", loop_scope="package")
async def provider(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[SandboxProvider]:
    """Lend a provider to all tests of this package: its start is the slow part."""
    assert request.param == "local"
    provider = LocalSandboxes(tmp_path_factory.mktemp("data"))
    yield provider
    await provider.close()


@pytest_asyncio.fixture(loop_scope="package")
async def box(provider: SandboxProvider) -> AsyncGenerator[Sandbox]:
    """Lend a fresh sandbox with an empty workspace."""
    sandbox = await make(provider)
    yield sandbox
    await sandbox.destroy()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a directory that stands for a checkout."""
    directory = tmp_path / "checkout"
    (directory / "package").mkdir(parents=True)
    (directory / "README").write_bytes(b"base\n")
    (directory / "package" / "module.py").write_bytes(b"value = 1\n")
    return directory
