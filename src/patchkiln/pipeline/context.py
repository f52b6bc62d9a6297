"""What a run's steps share: what was asked, what the server offers, what earlier steps found."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from patchkiln.domain.check import Check, CheckResult
from patchkiln.domain.network import (
    AllowedAddress,
    NetworkPolicy,
    NetworkRefusal,
    parse_network_rule,
)
from patchkiln.domain.patch import Patch
from patchkiln.domain.plan import Plan
from patchkiln.domain.project import Project
from patchkiln.domain.repository import Checkout, RepositoryUrl
from patchkiln.domain.run import Outcome, Run
from patchkiln.domain.usage import Usage
from patchkiln.domain.verdict import Judgement
from patchkiln.errors import InvalidRequest
from patchkiln.ports.agent import Agent, Task
from patchkiln.ports.repository import RepositorySource
from patchkiln.ports.sandbox import Sandbox, SandboxProvider, SandboxSpec, new_sandbox_id
from patchkiln.ports.store import Store

DEFAULT_CHECK_TIMEOUT_S = 600.0
MAX_REFUSALS = 1000
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

    ``refusals`` holds what its sandboxes were not allowed to reach, until it is told; None
    says that the steps are over.
    """

    run: Run
    services: Services
    started_at_s: float = field(default_factory=time.monotonic)
    sandbox_id: str = field(default_factory=new_sandbox_id)
    provider: SandboxProvider | None = None
    url: RepositoryUrl | None = None
    agent: Agent | None = None
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
    refusals: asyncio.Queue[NetworkRefusal | None] = field(
        default_factory=asyncio.Queue[NetworkRefusal | None]
    )

    @property
    def duration_ms(self) -> int:
        """Return the milliseconds since the run began."""
        return int((time.monotonic() - self.started_at_s) * 1000)

    @property
    def files_modified(self) -> int:
        """Return how many files the patch changes, this process's or an earlier one's."""
        return len(self.patch.changes) if self.patch else self.run.files_modified

    @property
    def commit(self) -> str | None:
        """Return the commit that the run stands on."""
        return self.checkout.commit if self.checkout else self.run.commit

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

    async def fresh_sandbox(self, *, sandbox_id: str | None = None) -> Sandbox:
        """Return a new sandbox on the untouched base."""
        provider, checkout = require(self.provider), require(self.checkout)
        spec = SandboxSpec(
            id=sandbox_id or new_sandbox_id(),
            base=checkout,
            network=self.network,
            on_refused=self._note_refusal,
        )
        return await provider.create(spec)

    @property
    def network(self) -> NetworkPolicy:
        """Return what the run's sandboxes may reach."""
        return NetworkPolicy(
            rules=tuple(parse_network_rule(text) for text in self.run.request.network),
            addresses=self.services.network_allow,
        )

    def _note_refusal(self, refusal: NetworkRefusal) -> None:
        """Keep a refusal until it is told; past the bound, the first ones have said enough."""
        if self.refusals.qsize() < MAX_REFUSALS:
            self.refusals.put_nowait(refusal)

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


def require(value: T | None) -> T:
    """Return what an earlier step has set; steps run in their listed order."""
    if value is None:
        raise RuntimeError("A step ran before the one that it stands on.")
    return value
