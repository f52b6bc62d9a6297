"""What all containers of a provider share: the engine, the image, PID 1's program, lent tools."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from patchkiln.ports.sandbox import Sandbox
from patchkiln.sandboxes.container.engine import Engine, EngineError, find_engine
from patchkiln.sandboxes.container.host import Host, look
from patchkiln.sandboxes.container.image import build_image, system_mounts
from patchkiln.sandboxes.container.machine import Ground
from patchkiln.sandboxes.container.source import copy_source
from patchkiln.sandboxes.local.box.layout import OPT_PYTHON, OPT_TOOLCHAIN
from patchkiln.sandboxes.local.environment import environment
from patchkiln.sandboxes.local.selftest.tools import choose_tools, own_python


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator names instead of the usual: a socket, an image, a runtime."""

    socket: str | None = None
    image: str | None = None
    runtime: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """The engine, and the ground that containers stand on.

    ``python`` is the version that they have.
    """

    engine: Engine
    host: Host
    ground: Ground
    python: str | None = None


async def prepare(data_dir: Path, place: Path, wishes: Wishes) -> Premises:
    """Find the engine and give it the image. Raises `SandboxUnavailable`, `EngineError`, `OSError`.

    Of the engine's limits nothing is believed yet: containers watch over themselves.
    """
    engine = await asyncio.to_thread(find_engine, wishes.socket)
    host = await look(engine, image=wishes.image, runtime=wishes.runtime)
    source = await asyncio.to_thread(copy_source, place / "agent")
    ground = Ground(
        image=wishes.image or await _own_image(engine),
        own_image=wishes.image,
        source=source,
        python="python3",
        env=environment(own_python=False),
        runtime=wishes.runtime if host.asks_for_runtime else None,
        own_kernel=host.own_kernel,
        bounds_memory=host.bounds_memory,
        bounds_processes=host.bounds_processes,
    )
    if wishes.image is None:
        ground = _with_host(ground, await asyncio.to_thread(own_python, data_dir))
    return Premises(engine=engine, host=host, ground=ground)


async def lend_tools(premises: Premises, box: Sandbox, place: Path) -> Premises:
    """Look which Python a container has, and lend the packages that run with it."""
    lent = premises.ground.mounts.get(OPT_PYTHON)
    tools = await choose_tools(box, lent, place / "toolchain")
    if tools.packages is None:
        return replace(premises, python=tools.python)
    mounts = {**premises.ground.mounts, OPT_TOOLCHAIN: tools.packages}
    ground = replace(premises.ground, mounts=mounts, site=tools.site)
    return replace(premises, ground=ground, python=tools.python)


def _with_host(ground: Ground, python: Path | None) -> Ground:
    mounts = system_mounts()
    if python is None:
        return replace(ground, mounts=mounts, python="/usr/bin/python3")
    return replace(
        ground,
        mounts={**mounts, OPT_PYTHON: python},
        python=f"{OPT_PYTHON}/bin/python3",
        env=environment(own_python=True),
    )


async def _own_image(engine: Engine) -> str:
    """Return the image of settings and empty directories, made once a content."""
    name, archive = await asyncio.to_thread(build_image)
    try:
        await engine.get(f"/images/{name}/json")
    except EngineError as error:
        if not error.is_missing:
            raise
        await engine.load(archive, name)
    return name
