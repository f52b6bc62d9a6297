"""What a run's steps share: what was asked, what the server offers, what earlier steps found."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from patchkiln.domain.check import Check, CheckResult
from patchkiln.domain.event import EventType, StatusUpdate
from patchkiln.domain.network import (
    AllowedAddress,
    NetworkPolicy,
    NetworkRefusal,
    parse_network_rule,
)
from patchkiln.domain.patch import Patch
from patchkiln.domain.plan import Plan
from patchkiln.domain.project import Project
from patchkiln.domain.repository import Checkout, RepositoryUrl, parse_repository_url
from patchkiln.domain.run import NETWORK_REFUSED, SANDBOX_REPLACED, Outcome, Run
from patchkiln.domain.usage import Usage
from patchkiln.domain.verdict import Judgement
from patchkiln.errors import CloneError, InvalidRequest
from patchkiln.pipeline.memory import Kept, kept_of
from patchkiln.pipeline.patching import apply_patch
from patchkiln.ports.agent import Agent, Task
from patchkiln.ports.repository import RepositorySource
from patchkiln.ports.sandbox import Sandbox, SandboxProvider, SandboxSpec, new_sandbox_id
from patchkiln.ports.store import Store

DEFAULT_CHECK_TIMEOUT_S = 600.0
MAX_ASIDES = 1000
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the server offers to its runs. ``agents`` are made when a run first asks for them."""

    store: Store
    repositories: RepositorySource
    sandboxes: Mapping[str, SandboxProvider]
    agents: Mapping[str, Callable[[], Awaitable[Agent]]]
    git_allow: tuple[str, ...] = ()
    network_allow: tuple[AllowedAddress, ...] = ()
    check_timeout_s: float = DEFAULT_CHECK_TIMEOUT_S


@dataclass(slots=True, kw_only=True)
class RunContext:
    """The state of one run between its steps; a field is None until its step has set it.

    ``began_at_s`` and ``ends_at_s``, its creation and its limit of time, are of `time.monotonic`.
    ``sandbox_lost``: the sandbox that was chosen ended with a process that is gone; ``kept`` is
    what the agent had kept there, and is in the workspace of the new one. ``waiting_for`` says, for
    a person, what the step is busy with. ``asides`` holds what is to be told though no step yields
    it; None says that the steps are over.
    """

    run: Run
    services: Services
    began_at_s: float = field(default_factory=time.monotonic)
    ends_at_s: float = math.inf
    sandbox_id: str = field(default_factory=new_sandbox_id)
    sandbox_lost: bool = False
    kept: Kept | None = None
    base_commit: str | None = None
    waiting_for: str = "the step"
    checkout: Checkout | None = None
    sandbox: Sandbox | None = None
    project: Project = field(default_factory=Project)
    checks: tuple[Check, ...] = ()
    baseline: tuple[CheckResult, ...] = ()
    results: tuple[CheckResult, ...] = ()
    plan: Plan | None = None
    patch: Patch | None = None
    patch_kept: bool = False
    judgement: Judgement | None = None
    usage: Usage = field(default_factory=Usage)
    outcome: Outcome | None = None
    agent_message: str = ""
    asides: asyncio.Queue[StatusUpdate | None] = field(
        default_factory=asyncio.Queue[StatusUpdate | None]
    )

    @property
    def duration_ms(self) -> int:
        """Return the milliseconds since the run was created."""
        return int((time.monotonic() - self.began_at_s) * 1000)

    @property
    def files_modified(self) -> int:
        """Return how many files the patch changes, this process's or an earlier one's."""
        return len(self.patch.changes) if self.patch else self.run.files_modified

    @property
    def commit(self) -> str | None:
        """Return the commit that the run stands on."""
        return self.checkout.commit if self.checkout else self.base_commit or self.run.commit

    @property
    def task(self) -> Task:
        """Return what the agent is given."""
        request = self.run.request
        return Task(
            prompt=request.prompt,
            repository=request.repository,
            project=self.project,
            limits=request.limits,
            model=request.model,
            baseline=self.baseline,
        )

    @property
    def url(self) -> RepositoryUrl:
        """Return the repository's URL, held against the policy. Raises `InvalidRequest`."""
        return parse_repository_url(self.run.request.repo_url, allow=self.services.git_allow)

    @property
    def provider(self) -> SandboxProvider:
        """Return the provider that the request names. Raises `InvalidRequest`."""
        name = self.run.request.sandbox
        provider = self.services.sandboxes.get(name)
        if provider is None:
            raise InvalidRequest(f"This server has no sandbox provider '{name}'.", field="sandbox")
        return provider

    @contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Say what the step is busy with, for as long as it is."""
        before, self.waiting_for = self.waiting_for, what
        try:
            yield
        finally:
            self.waiting_for = before

    async def base(self) -> Checkout:
        """Return the base: the one at hand, or the very commit of before, fetched again if gone.

        Raises `CloneError` and its kin.
        """
        if self.checkout is None:
            commit, depth = require(self.commit), self.run.request.clone_depth
            fetch = self.services.repositories.fetch(self.url, ref=commit, depth=depth)
            with self.waiting("the repository"):
                async with aclosing(fetch) as items:
                    async for item in items:
                        if isinstance(item, Checkout):
                            self.checkout = item
        if self.checkout is None:
            raise CloneError("The run's commit could not be brought in again.")
        return self.checkout

    async def workspace(self) -> Sandbox:
        """Return the agent's sandbox; where a restart has taken it, a new one with its work."""
        if self.sandbox is None:
            if not self.sandbox_lost:
                self.sandbox = await self.fresh_sandbox(sandbox_id=self.sandbox_id)
                return self.sandbox
            self.kept = await kept_of(self.run, self.services.store)
            self.sandbox_id = new_sandbox_id()
            self.sandbox = await self.fresh_sandbox(sandbox_id=self.sandbox_id)
            if self.kept is not None and self.kept.patch:
                await apply_patch(self.sandbox, self.kept.patch)
            self.asides.put_nowait(_replaced(self.sandbox_id, self.kept))
        return self.sandbox

    async def fresh_sandbox(self, *, sandbox_id: str | None = None) -> Sandbox:
        """Return a new sandbox on the untouched base."""
        spec = SandboxSpec(
            id=sandbox_id or new_sandbox_id(),
            base=await self.base(),
            network=self.network,
            on_refused=self._note_refusal,
        )
        with self.waiting("a sandbox"):
            return await self.provider.create(spec)

    @property
    def network(self) -> NetworkPolicy:
        """Return what the run's sandboxes may reach."""
        return NetworkPolicy(
            rules=tuple(parse_network_rule(text) for text in self.run.request.network),
            addresses=self.services.network_allow,
        )

    def _note_refusal(self, refusal: NetworkRefusal) -> None:
        """Keep a refusal until it is told; past the bound, the first ones have said enough."""
        if self.asides.qsize() < MAX_ASIDES:
            self.asides.put_nowait(_refused(refusal))

    async def choose_agent(self) -> Agent:
        """Return the agent that the request names. Raises `InvalidRequest` for an unknown one."""
        name = self.run.request.agent
        make = self.services.agents.get(name)
        if make is None:
            known = ", ".join(sorted(self.services.agents))
            raise InvalidRequest(f"There is no agent '{name}'; this server has {known}.")
        return await make()

    async def close(self) -> None:
        """Destroy the sandbox and give the checkout back. Idempotent."""
        sandbox, self.sandbox = self.sandbox, None
        if sandbox is not None:
            await sandbox.destroy()
        checkout, self.checkout = self.checkout, None
        if checkout is not None:
            await self.services.repositories.release(checkout)


def _refused(refusal: NetworkRefusal) -> StatusUpdate:
    return StatusUpdate(
        event=NETWORK_REFUSED,
        message=f"Not reached: {refusal.host}, port {refusal.port}: {refusal.rule}",
        type=EventType.WARNING,
        data={"host": refusal.host, "port": refusal.port, "rule": refusal.rule},
    )


def _replaced(sandbox_id: str, kept: Kept | None) -> StatusUpdate:
    begun = "from the base" if kept is None else "from the agent's last turn"
    return StatusUpdate(
        event=SANDBOX_REPLACED,
        message=f"The run goes on in a new sandbox, {begun}: its last one ended with the server",
        type=EventType.WARNING,
        data={"sandbox_id": sandbox_id, "patch_bytes": 0 if kept is None else len(kept.patch)},
    )


def require(value: T | None) -> T:
    """Return what an earlier step has set; steps run in their listed order."""
    if value is None:
        raise RuntimeError("A step ran before the one that it stands on.")
    return value
