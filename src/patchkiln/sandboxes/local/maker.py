"""Makes boxes through the zygote, which it starts, and starts anew should it have died."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from patchkiln.errors import SandboxLost, SandboxUnavailable
from patchkiln.ports.sandbox import SandboxSpec
from patchkiln.sandboxes.local import orphans
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.diagnosis import explain, explain_machine
from patchkiln.sandboxes.local.facts import read_facts
from patchkiln.sandboxes.local.generation import Generation, Origin
from patchkiln.sandboxes.local.network import BoxSockets
from patchkiln.sandboxes.local.plan import Purpose
from patchkiln.sandboxes.local.planning import give_writable_mounts, plan_box
from patchkiln.sandboxes.local.tools import Tools
from patchkiln.sandboxes.local.zygote_process import START_S, StepFailed, ZygoteProcess
from patchkiln.sandboxes.network.authority import Authority
from patchkiln.sandboxes.network.sandbox_network import SandboxNetwork

# To join layers is to copy all that is in them.
_START_S = {"flatten": 300.0}


class BoxMaker:
    """Owns the zygote. ``tools`` are what boxes are lent; ``shared_proc`` is said in the plan."""

    def __init__(self, place: Path) -> None:
        """Take the directory for the zygote's own, and for what is noted of zygotes."""
        self.tools = Tools()
        self._staging = place / "staging"
        self._records = place / "zygotes"
        self.shared_proc = False
        self._authority = Authority()
        self._starting = asyncio.Lock()
        self._zygote: ZygoteProcess | None = None

    async def make(
        self, spec: SandboxSpec, origin: Origin, *, name: str, purpose: Purpose = "work"
    ) -> Generation:
        """Make a box. Raises `SandboxUnavailable` with the cause and the fix."""
        plan = plan_box(spec, self.tools, origin, name=name, purpose=purpose)
        plan["shared_proc"] = self.shared_proc
        async with _explained():
            zygote = await self._running_zygote()
            if zygote.as_root and spec.mounts:
                await asyncio.to_thread(give_writable_mounts, spec)
            start_s = _START_S.get(purpose, START_S)
            line, descriptors, pid = await zygote.create(plan, start_s=start_s)
        channel = Channel(line, _lost)
        sockets = BoxSockets(channel, dict(zip(plan["places"], descriptors, strict=True)))
        generation = Generation(
            name=name,
            origin=origin,
            channel=channel,
            network=SandboxNetwork(
                listen=sockets.listen,
                write=sockets.write,
                authority=self._authority,
                on_refused=spec.on_refused,
            ),
            pid=pid,
            zygote=zygote,
        )
        try:
            await generation.network.set_policy(spec.network)
        except BaseException:
            sockets.close()
            await generation.end()
            raise
        return generation

    async def close(self) -> None:
        """End the zygote, and with it every box. Idempotent."""
        async with self._starting:
            await self._stop_zygote()

    async def _running_zygote(self) -> ZygoteProcess:
        async with self._starting:
            if self._zygote is None or not self._zygote.running:
                await self._stop_zygote()
                await asyncio.to_thread(self._staging.mkdir, parents=True, exist_ok=True)
                await asyncio.to_thread(orphans.end_orphans, self._records)
                note = partial(orphans.write_down, self._records)
                self._zygote = await ZygoteProcess.start(self._staging, note)
            return self._zygote

    async def _stop_zygote(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.stop()
            await asyncio.to_thread(orphans.strike_out, self._records, zygote.pid)


@asynccontextmanager
async def _explained() -> AsyncGenerator[None]:
    """Say in words for a person why the kernel refused something."""
    try:
        yield
    except StepFailed as failure:
        reason, remedy = explain(failure.step, failure.number, read_facts())
        raise SandboxUnavailable(reason, remedy=remedy) from failure
    except OSError as error:
        reason, remedy = explain_machine(error)
        raise SandboxUnavailable(reason, remedy=remedy) from error


def _lost() -> SandboxLost:
    return SandboxLost("The sandbox is gone.")
