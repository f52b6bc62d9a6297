"""The provider of local sandboxes: tests itself once, then makes boxes."""

import asyncio
import os
from pathlib import Path

from patchkiln.domain.patch import Patch
from patchkiln.domain.repository import Checkout
from patchkiln.errors import PatchError, SandboxError, SandboxUnavailable
from patchkiln.ports.sandbox import Isolation, IsolationLevel, SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local import selftest, syscalls
from patchkiln.sandboxes.local.diagnosis import explain, explain_machine
from patchkiln.sandboxes.local.diff import clean_room_diff
from patchkiln.sandboxes.local.facts import read_facts
from patchkiln.sandboxes.local.maker import BoxMaker
from patchkiln.sandboxes.local.planning import settle_places
from patchkiln.sandboxes.local.sandbox import LocalSandbox
from patchkiln.sandboxes.local.tools import Tools, choose_tools, own_python
from patchkiln.sandboxes.local.zygote_process import StepFailed

_PLACE = Path("sandboxes")


class LocalSandboxes:
    """Implements `SandboxProvider` with native boxes; the zygote starts with the first use."""

    def __init__(self, data_dir: Path) -> None:
        """Take the directory below which the provider keeps what it needs."""
        self._data_dir = data_dir.absolute()
        self._real_data_dir = Path(os.path.realpath(data_dir))
        self._place = self._real_data_dir / _PLACE
        self._maker = BoxMaker(self._place / "staging", self._review)
        self._testing = asyncio.Lock()
        self._isolation: Isolation | None = None
        self._tools = Tools()

    @property
    def name(self) -> str:
        """Return ``local``."""
        return "local"

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
        return await self._make(settle_places(spec, self._data_dir, self._real_data_dir))

    async def close(self) -> None:
        """Destroy every box and end the zygote."""
        await self._maker.close()

    async def _make(self, spec: SandboxSpec, *, reviews: str | None = None) -> LocalSandbox:
        try:
            made = await self._maker.make(spec, self._tools, reviews=reviews)
        except StepFailed as failure:
            reason, remedy = _explain(failure)
            raise SandboxUnavailable(reason, remedy=remedy) from failure
        except OSError as error:
            reason, remedy = explain_machine(error)
            raise SandboxUnavailable(reason, remedy=remedy) from error
        return made.sandbox

    async def _review(self, spec: SandboxSpec) -> Patch:
        """Compare the sealed layer of a box with its base, in a fresh box."""
        if spec.base is None:
            raise PatchError("A sandbox without a base has nothing to compare with.")
        fresh = SandboxSpec(id=new_sandbox_id(), base=spec.base, limits=spec.limits)
        box = await self._make(fresh, reviews=spec.id)
        try:
            return await clean_room_diff(box)
        finally:
            await box.destroy()

    async def _examine(self) -> Isolation:
        try:
            return selftest.judge(await self._observe(own_python(self._real_data_dir)))
        except StepFailed as failure:
            reason, remedy = _explain(failure)
        except SandboxError as error:
            reason, remedy = error.message, error.remedy
        except OSError as error:
            reason, remedy = explain_machine(error)
        return Isolation(level=IsolationLevel.NONE, reason=reason, remedy=remedy)

    async def _observe(self, python: Path | None) -> selftest.Observation:
        """Make a box the way all are made, look at it from both sides, and choose the tools."""
        base = await asyncio.to_thread(_probe_base, self._place / "probe")
        spec = SandboxSpec(id=new_sandbox_id(), base=base)
        made = await self._maker.make(spec, Tools(own_python=python))
        try:
            findings = await selftest.probe(made.sandbox, self._place)
            uid = await selftest.host_uid(made.pid)
            self._tools = await choose_tools(made.sandbox, python, self._place / "toolchain")
        finally:
            await made.sandbox.destroy()
        return selftest.Observation(
            findings=findings,
            machine=read_facts(),
            host_uid=uid,
            as_root=made.zygote.as_root,
            cgroup=made.zygote.cgroup,
            landlock=syscalls.landlock_abi(),
            python=self._tools.python,
        )


def _explain(failure: StepFailed) -> tuple[str, str]:
    return explain(failure.step, failure.number, read_facts())


def _probe_base(directory: Path) -> Checkout:
    selftest.make_base(directory)
    return Checkout(
        repository="probe",
        commit="",
        branch="",
        path=directory,
        file_count=0,
        size_bytes=0,
        cached=True,
    )
