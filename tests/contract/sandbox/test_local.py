"""What the local provider's own parts must withstand."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from patchkiln.errors import SandboxNotFound, SandboxUnavailable
from patchkiln.ports.sandbox import SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local import household
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.contract.sandbox.making import make, text

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalSandboxes]:
    """Lend a provider to all tests here."""
    provider = LocalSandboxes(tmp_path_factory.mktemp("data"))
    yield provider
    await provider.close()


async def test_a_fork_is_all_or_none(
    local: LocalSandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one child cannot be made, the others are taken back and the parent goes on."""
    box = await make(local)
    taken = SandboxSpec(id=new_sandbox_id())
    other = await local.create(taken)
    wanted = [new_sandbox_id(), taken.id, new_sandbox_id()]
    monkeypatch.setattr(household, "new_sandbox_id", iter(wanted).__next__)
    with pytest.raises(SandboxUnavailable, match="already"):
        await box.fork(3)
    monkeypatch.undo()
    for name in (wanted[0], wanted[2]):
        with pytest.raises(SandboxNotFound):
            await local.attach(name)
    assert await text(box, "echo alive") == "alive"
    await asyncio.gather(box.destroy(), other.destroy())
