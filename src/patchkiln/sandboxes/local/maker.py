"""Makes boxes through the zygote, which it starts, and starts anew should it have died."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from pathlib import Path

from patchkiln.errors import SandboxUnavailable
from patchkiln.ports.sandbox import SandboxSpec
from patchkiln.sandboxes.local import orphans
from patchkiln.sandboxes.local.box.plan import Purpose
from patchkiln.sandboxes.local.bubblewrap.boxes import Bubblewrap
from patchkiln.sandboxes.local.generation import Generation, Namespaces, Origin
from patchkiln.sandboxes.local.network import BoxSockets
from patchkiln.sandboxes.local.planning import give_writable_mounts, plan_box
from patchkiln.sandboxes.local.selftest.diagnosis import explain, explain_machine
from patchkiln.sandboxes.local.selftest.facts import read_facts
from patchkiln.sandboxes.local.selftest.tools import Tools
from patchkiln.sandboxes.local.zygote_process import START_S, StepFailed, ZygoteProcess
from patchkiln.sandboxes.network.authority import Authority
from patchkiln.sandboxes.network.sandbox_network import SandboxNetwork

# To join layers is to copy all that is in them.
_START_S = {"flatten": 300.0}


class Maker(Enum):
    """Who makes namespaces."""

    SERVER = "server"
    BUBBLEWRAP = "bwrap"


class BoxMaker:
    """Owns what makes namespaces, which is ``by``'s work.

    ``tools`` are what boxes are lent; ``shared_proc`` is said in the plan.
    """

    def __init__(self, place: Path, by: Maker) -> None:
        """Take the directory for the zygote's own and what is noted of zygotes, and who makes."""
        self.tools = Tools()
        self._staging = place / "staging"
        self._records = place / "zygotes"
        self.shared_proc = False
        self.by = by
        self._authority = Authority()
        self._starting = asyncio.Lock()
        self._zygote: Namespaces | None = None

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
            channel, descriptors, pid = await zygote.create(plan, start_s=start_s)
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

    async def change(self, by: Maker) -> None:
        """Let another make namespaces from now on."""
        await self.close()
        self.by = by

    async def close(self) -> None:
        """End the zygote, and with it every box. Idempotent."""
        async with self._starting:
            await self._stop_zygote()

    async def _running_zygote(self) -> Namespaces:
        async with self._starting:
            if self._zygote is None or not self._zygote.running:
                await self._stop_zygote()
                self._zygote = await self._start()
                # Its PID 1 could not change the setting in a /proc that the container has closed.
                self._zygote.opens_low_ports &= not self.shared_proc
            return self._zygote

    async def _start(self) -> Namespaces:
        if self.by is Maker.BUBBLEWRAP:
            return await Bubblewrap.start(self.tools)
        await asyncio.to_thread(self._staging.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(orphans.end_orphans, self._records)
        note = partial(orphans.write_down, self._records)
        return await ZygoteProcess.start(self._staging, note)

    async def _stop_zygote(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.stop()
            if isinstance(zygote, ZygoteProcess):
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
