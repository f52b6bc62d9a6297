"""A server whose runs follow the test's script."""

from collections.abc import AsyncGenerator

import pytest

from tests.support.stage import StagedServer, staged_server


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[StagedServer]:
    """Serve a stage with the usual settings."""
    async with staged_server(monkeypatch) as staged:
        yield staged
