"""The provider of local sandboxes: tests itself once, then makes boxes."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from patchkiln.domain.repository import Checkout
from patchkiln.errors import SandboxError, SandboxUnavailable
from patchkiln.ports.sandbox import (
    Capability,
    Isolation,
    IsolationLevel,
    SandboxSpec,
    new_sandbox_id,
)
from patchkiln.sandboxes.local import zygote_process
from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.bubblewrap.boxes import is_installed
from patchkiln.sandboxes.local.household import Household
from patchkiln.sandboxes.local.maker import BoxMaker, Maker
from patchkiln.sandboxes.local.planning import settle_places
from patchkiln.sandboxes.local.sandbox import LocalSandbox
from patchkiln.sandboxes.local.selftest import examination
from patchkiln.sandboxes.local.selftest.diagnosis import (
    Diagnosis,
    explain_machine,
    is_shortage,
    lacks_proc,
)
from patchkiln.sandboxes.local.selftest.facts import read_facts
from patchkiln.sandboxes.local.selftest.tools import Tools, choose_tools, own_python
from patchkiln.sandboxes.local.zygote_process import StepFailed

_PLACE = Path("sandboxes")
_CAPABILITIES = frozenset(
    {
        Capability.ATTACH,
        Capability.BACKGROUND,
        Capability.CREDENTIALS,
        Capability.DISK_LIMIT,
        Capability.FORK,
        Capability.HOST_MOUNTS,
        Capability.MEMORY_LIMIT,
        Capability.NETWORK,
        Capability.NETWORK_CHANGE,
        Capability.PAUSE,
        Capability.PROCESS_LIMIT,
        Capability.SIGNAL,
        Capability.SNAPSHOT,
        Capability.TERMINAL,
        Capability.TERMINAL_WITH_NETWORK,
    }
)
# Without a /proc that it may write, a box opens the ports of its network at its birth alone.
_WITH_CLOSED_PROC = _CAPABILITIES - {Capability.NETWORK_CHANGE}
# Under bubblewrap a workspace is a copy: nothing lies below it that others could stand on, and the
# base takes of its disk too. Nor has who owns a network the right to mount terminals.
_WITHOUT_LAYERS = _WITH_CLOSED_PROC - {
    Capability.DISK_LIMIT,
    Capability.FORK,
    Capability.SNAPSHOT,
    Capability.TERMINAL_WITH_NETWORK,
}


class LocalSandboxes:
    """Implements `SandboxProvider` with native boxes; the zygote starts with the first use."""

    def __init__(self, data_dir: Path, maker: Maker | None = None) -> None:
        """Take the directory below which the provider keeps what it needs.

        ``maker`` says who makes namespaces, None: the server itself, and bubblewrap where the
        machine refuses that.
        """
        self._data_dir = data_dir.absolute()
        self._real_data_dir = Path(os.path.realpath(data_dir))
        self._place = self._real_data_dir / _PLACE
        self._wanted = maker
        self._maker = BoxMaker(self._place, maker or Maker.SERVER)
        self._household = Household(self._maker)
        self._testing = asyncio.Lock()
        self._isolation: Isolation | None = None
        # Where the disk is full, say: a cause that passes, and that no other maker mends.
        self._machine_failed = False

    @property
    def name(self) -> str:
        """Return ``local``."""
        return "local"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what every box can do; it is known once the self-test has chosen the maker."""
        if self._maker.by is Maker.BUBBLEWRAP:
            return _WITHOUT_LAYERS
        return _WITH_CLOSED_PROC if self._maker.shared_proc else _CAPABILITIES

    async def isolation(self) -> Isolation:
        """Return the self-test's result."""
        async with self._testing:
            if self._isolation is None:
                self._isolation = await self._examine()
            return self._isolation

    async def create(self, spec: SandboxSpec) -> LocalSandbox:
        """Make a box."""
        isolation = await self.isolation()
        if isolation.level is IsolationLevel.NONE:
            raise SandboxUnavailable(isolation.reason, remedy=isolation.remedy)
        return await self._household.make(settle_places(spec, self._data_dir, self._real_data_dir))

    async def attach(self, sandbox_id: str) -> LocalSandbox:
        """Return a living box."""
        return self._household.attach(sandbox_id)

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot."""
        self._household.remove_snapshot(snapshot_id)

    async def close(self) -> None:
        """Destroy every box and end the zygote."""
        # What does not end by itself ends with what made it.
        with suppress(TimeoutError):
            async with asyncio.timeout(zygote_process.END_S):
                await self._household.close()
        await self._maker.close()

    async def _examine(self) -> Isolation:
        isolation = await self._examine_maker(None)
        refused = isolation.level is IsolationLevel.NONE and not self._machine_failed
        if refused and self._wanted is None and is_installed():
            await self._maker.change(Maker.BUBBLEWRAP)
            other = await self._examine_maker(Diagnosis(isolation.reason, isolation.remedy))
            if other.level is not IsolationLevel.NONE:
                return other
            await self._maker.change(Maker.SERVER)
        return isolation

    async def _examine_maker(self, refusal: Diagnosis | None) -> Isolation:
        """Test the boxes of one maker; ``refusal`` is why the server itself makes none."""
        python = own_python(self._real_data_dir)
        try:
            return examination.judge(await self._observe_what_works(python), refusal)
        except SandboxError as error:
            self._machine_failed = _is_shortage(error.__cause__)
            reason, remedy = error.message, error.remedy
        except OSError as error:
            self._machine_failed = True
            reason, remedy = explain_machine(error)
        return Isolation(level=IsolationLevel.NONE, reason=reason, remedy=remedy)

    async def _observe_what_works(self, python: Path | None) -> examination.Observation:
        """Do without a /proc of the box's own where the kernel refuses it."""
        try:
            return await self._observe(python)
        except SandboxUnavailable as error:
            failure = error.__cause__
            if not isinstance(failure, StepFailed):
                raise
            if not lacks_proc(failure.step, failure.number):
                raise
        await self._maker.close()
        self._maker.shared_proc = True
        return await self._observe(python)

    async def _observe(self, python: Path | None) -> examination.Observation:
        """Make a box the way all are made, look at it from both sides, and choose the tools."""
        base = await asyncio.to_thread(_probe_base, self._place / "probe")
        spec = SandboxSpec(id=new_sandbox_id(), base=base)
        self._maker.tools = Tools(own_python=python)
        box = await self._household.make(spec)
        try:
            findings = await examination.probe(box, self._place)
            uid = await examination.host_uid(box.generation.pid)
            tools = await choose_tools(box, python, self._place / "toolchain")
        finally:
            await box.destroy()
        self._maker.tools = tools
        zygote = box.generation.zygote
        return examination.Observation(
            findings=findings,
            machine=read_facts(),
            host_uid=uid,
            as_root=zygote.as_root,
            cgroup=zygote.cgroup,
            landlock=syscalls.landlock_abi(),
            python=tools.python,
            shared_proc=self._maker.shared_proc,
            maker=zygote.name if self._maker.by is Maker.BUBBLEWRAP else None,
        )


def _is_shortage(cause: BaseException | None) -> bool:
    """Tell whether the machine lacks something for whoever makes boxes, and refused none."""
    if isinstance(cause, StepFailed):
        return is_shortage(cause.step, cause.number)
    return isinstance(cause, OSError)


def _probe_base(directory: Path) -> Checkout:
    examination.make_base(directory)
    return Checkout(
        repository="probe",
        commit="",
        branch="",
        path=directory,
        file_count=0,
        size_bytes=0,
        cached=True,
    )
