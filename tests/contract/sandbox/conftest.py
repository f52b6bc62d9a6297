"""Every provider that passes the contract of `patchkiln.ports.sandbox`, one parameter each."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from patchkiln.ports.sandbox import IsolationLevel, Sandbox, SandboxProvider
from patchkiln.sandboxes.container.provider import ContainerSandboxes
from patchkiln.sandboxes.local.maker import Maker
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.contract.sandbox.making import make
from tests.support import podman

_MAKERS = {"local": Maker.SERVER, "local-bwrap": Maker.BUBBLEWRAP}
_PROVIDERS = [*_MAKERS, "container"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try every provider; with `one_provider` one of them, but where `every_provider` is nearer.

    The agent in a sandbox and the proxy outside of it are the same programs whoever makes it. What
    they do in every case is tried where making a sandbox is quick, and their kinds of work with
    each provider.
    """
    if "provider" not in metafunc.fixturenames:
        return
    nearest = (mark.name for mark in metafunc.definition.iter_markers())
    scopes = (name for name in nearest if name in {"one_provider", "every_provider"})
    names = _PROVIDERS[:1] if next(scopes, "") == "one_provider" else _PROVIDERS
    metafunc.parametrize("provider", names, indirect=True, scope="package")


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def provider(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[SandboxProvider]:
    """Lend a provider to all tests of this package: its start is the slow part."""
    data = tmp_path_factory.mktemp("data")
    if request.param in _MAKERS:
        local = LocalSandboxes(data, _MAKERS[request.param])
        yield local
        await local.close()
        return
    with ExitStack() as stack:
        place: Path | None = None
        if podman.installed():
            place = stack.enter_context(podman.service(tmp_path_factory.mktemp("podman")))
        containers = ContainerSandboxes(data, socket=None if place is None else str(place))
        await _skip_without_engine(containers)
        yield containers
        await containers.close()


async def _skip_without_engine(provider: SandboxProvider) -> None:
    """Leave the machine's tests of containers out where, by the provider's word, none can be had.

    With a Podman that could be started, that would be a failure.
    """
    isolation = await provider.isolation()
    if isolation.level is IsolationLevel.NONE:
        assert not podman.installed(), isolation
        assert "container engine" in isolation.reason
        assert "podman.socket" in isolation.remedy
        pytest.skip(f"{isolation.reason} {isolation.remedy}")


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
