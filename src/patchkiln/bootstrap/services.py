"""Opens what runs need: sandboxes, clone cache, agents, and an engine over a store."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial

from patchkiln.engine import EngineLimits, RunEngine
from patchkiln.engines.memory import MemoryEngine
from patchkiln.pipeline.context import Services
from patchkiln.pipeline.steps import WORKFLOW_VERSION
from patchkiln.ports.agent import Agent
from patchkiln.ports.engine import Engine
from patchkiln.ports.sandbox import Capability, SandboxProvider
from patchkiln.ports.store import Store
from patchkiln.repositories import GitRepositories
from patchkiln.sandboxes.local.provider import LocalSandboxes
from patchkiln.settings import Settings
from patchkiln.stores.memory import MemoryStore

RECIPES = "recipes"
BUILTIN = "builtin"
AGENTS = (BUILTIN, RECIPES)


def default_agent(settings: Settings) -> str:
    """Return the agent of a request that names none."""
    return RECIPES if settings.model is None else BUILTIN


@asynccontextmanager
async def open_sandboxes(
    settings: Settings, names: Sequence[str]
) -> AsyncGenerator[Mapping[str, SandboxProvider]]:
    """Lend providers by their names, and destroy what they made."""
    async with AsyncExitStack() as stack:
        providers: dict[str, SandboxProvider] = {}
        for name in names:
            providers[name] = _provider(name, settings)
            stack.push_async_callback(providers[name].close)
        yield providers


def _provider(name: str, settings: Settings) -> SandboxProvider:
    if name == "local":
        return LocalSandboxes(settings.data_dir)
    from patchkiln.sandboxes.container.provider import (  # noqa: PLC0415 - few servers need it
        ContainerSandboxes,
    )

    return ContainerSandboxes(
        settings.data_dir,
        socket=settings.container_socket,
        image=settings.container_image,
        runtime=settings.container_runtime,
    )


@asynccontextmanager
async def open_engine(
    settings: Settings, store: Store, *, allow: tuple[str, ...] = ()
) -> AsyncGenerator[RunEngine]:
    """Lend an engine over a store. ``allow`` adds URL prefixes to the settings' own."""
    async with open_sandboxes(settings, settings.sandbox) as providers:
        repositories = GitRepositories(
            # Git works on directories of this machine.
            next(one for one in providers.values() if Capability.HOST_MOUNTS in one.capabilities),
            settings.data_dir / "repositories",
            max_bytes=settings.max_repository_bytes,
            timeout_s=settings.clone_timeout_s,
            cache_bytes=settings.cache_bytes,
        )
        services = Services(
            store=store,
            repositories=repositories,
            sandboxes=providers,
            agents=agent_factories(settings),
            git_allow=(*settings.git_allow, *allow),
            network_allow=settings.network_allow,
            check_timeout_s=settings.check_timeout_s,
        )
        limits = EngineLimits(
            running=settings.max_running, unfinished_per_caller=settings.max_unfinished
        )
        engine = RunEngine(services, limits)
        try:
            yield engine
        finally:
            await engine.close()
            await repositories.close()


@asynccontextmanager
async def local_runs(
    settings: Settings, *, allow: tuple[str, ...] = ()
) -> AsyncGenerator[RunEngine]:
    """Lend an engine that keeps its runs in memory, for one run from the terminal."""
    async with open_engine(settings, MemoryStore(), allow=allow) as engine:
        await engine.open(MemoryEngine())
        yield engine


async def durable_engine(settings: Settings) -> Engine:
    """Return what carries the server's runs out, crashes notwithstanding."""
    return await asyncio.to_thread(_dbos_engine, settings)


def _dbos_engine(settings: Settings) -> Engine:
    from patchkiln.engines.dbos import DbosEngine  # noqa: PLC0415 - DBOS costs half a second

    return DbosEngine(settings.data_dir / "engine.db", version=WORKFLOW_VERSION)


def agent_factories(settings: Settings) -> Mapping[str, Callable[[], Awaitable[Agent]]]:
    """Return what makes each agent; the first call imports it, in a thread."""
    builtin = cache(partial(_builtin, settings))
    return {
        RECIPES: partial(asyncio.to_thread, _recipes),
        BUILTIN: partial(asyncio.to_thread, builtin),
    }


@cache
def _recipes() -> Agent:
    from patchkiln.agent.recipes import RecipesAgent  # noqa: PLC0415 - libcst costs 0.3 s

    return RecipesAgent()


def _builtin(settings: Settings) -> Agent:
    from patchkiln.agent.builtin import BuiltinAgent  # noqa: PLC0415 - pydantic-ai costs 1.5 s
    from patchkiln.models import Models  # noqa: PLC0415 - as above

    models = Models(
        default=settings.model, keys=settings.model_keys, base_url=settings.model_base_url
    )
    return BuiltinAgent(models.model, secrets=models.secrets)
