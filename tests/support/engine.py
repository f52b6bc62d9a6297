"""A real engine for tests: real sandboxes, real git, a store and a scripted agent."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from patchkiln.domain.network import AllowedAddress
from patchkiln.domain.run import Run
from patchkiln.engine import EngineLimits, RunEngine
from patchkiln.engines.memory import MemoryEngine
from patchkiln.pipeline.context import Services
from patchkiln.ports.agent import Agent
from patchkiln.ports.engine import Engine
from patchkiln.ports.sandbox import SandboxProvider
from patchkiln.ports.store import Store
from patchkiln.repositories import GitRepositories
from patchkiln.sandboxes.local.provider import LocalSandboxes
from patchkiln.stores.memory import MemoryStore
from tests.support.scripted_agent import ScriptedAgent

Event: TypeAlias = Mapping[str, Any]


@asynccontextmanager
async def engine_over(
    data_dir: Path,
    agent: Agent | None = None,
    *,
    allow: tuple[str, ...],
    network_allow: tuple[AllowedAddress, ...] = (),
    store: Store | None = None,
    carrier: Engine | None = None,
    provider: SandboxProvider | None = None,
    running: int = 4,
    room: int = 100,
    check_timeout_s: float = 60.0,
) -> AsyncGenerator[RunEngine]:
    """Lend an engine whose only agent, ``scripted``, is the given one.

    A ``provider`` that is given stays open.
    """
    own = LocalSandboxes(data_dir) if provider is None else None
    provider = own or provider
    assert provider is not None

    async def make() -> Agent:
        return agent or ScriptedAgent()

    services = Services(
        store=store or MemoryStore(),
        repositories=GitRepositories(provider, data_dir / "repositories"),
        sandboxes={"local": provider},
        agents={"scripted": make},
        git_allow=allow,
        network_allow=network_allow,
        check_timeout_s=check_timeout_s,
    )
    engine = RunEngine(services, EngineLimits(running=running, unfinished_per_caller=room))
    try:
        await engine.open(carrier or MemoryEngine())
        yield engine
    finally:
        await engine.close()
        if own is not None:
            await own.close()


async def follow(engine: RunEngine, run: Run, *, after: int = 0) -> list[Event]:
    """Return every event of a run, to its end."""
    async with asyncio.timeout(60):
        return [
            json.loads(event.payload)
            async for batch in engine.follow(run.id, after=after)
            for event in batch
        ]


async def follow_until(engine: RunEngine, run: Run, name: str) -> None:
    """Return once an event of this name was seen; the stream is left in the middle."""
    async with asyncio.timeout(60):
        async for batch in engine.follow(run.id):
            if any(json.loads(event.payload)["event"] == name for event in batch):
                return


def events_named(events: list[Event], name: str) -> list[Event]:
    """Return the events of one name."""
    return [event for event in events if event["event"] == name]
