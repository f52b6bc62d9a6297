"""Scripted runs on the real engine: what a run does is the test's, all around it is real.

A run takes its cues in order: a `StatusUpdate` is told, an `End` ends it. Either the test gives
them one by one, with `Stage.cue`, or every new run plays what `Stage.script` was given.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
import pytest

from patchkiln.api import ApiConfig, create_app
from patchkiln.domain.event import EventType, StatusUpdate
from patchkiln.domain.patch import ChangeKind, FileChange, Patch
from patchkiln.domain.repository import Checkout, RepositoryUrl
from patchkiln.domain.run import PATCH_MADE, Outcome
from patchkiln.engine import EngineLimits, RunEngine
from patchkiln.engines.memory import MemoryEngine
from patchkiln.errors import PatchkilnError, RemoteUnreachable, SandboxNotFound, SandboxUnavailable
from patchkiln.pipeline import runner
from patchkiln.pipeline.context import RunContext, Services
from patchkiln.pipeline.step import Step
from patchkiln.ports.repository import FetchProgress
from patchkiln.ports.sandbox import Capability, Isolation, IsolationLevel, Sandbox, SandboxSpec
from patchkiln.stores.memory import MemoryStore
from tests.support.server import serving

DIFF = b"""diff --git a/greeting.txt b/greeting.txt
--- a/greeting.txt
+++ b/greeting.txt
@@ -1 +1 @@
-gr\xfc\xdfe
+hello
"""
CONFIG = ApiConfig(default_agent="recipes", agents=("recipes", "builtin"), sandboxes=("local",))
BODY = {"repoUrl": "https://github.com/owner/name.git", "prompt": "Say hello"}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last cue. ``diff`` None leaves no patch; ``error`` ends the run instead."""

    outcome: Outcome = Outcome.CHANGED
    diff: bytes | None = DIFF
    error: PatchkilnError | None = None


class NoRepositories:
    """Implements `RepositorySource`: nothing can be reached; no scripted run asks for it."""

    async def fetch(
        self, url: RepositoryUrl, *, ref: str | None, depth: int
    ) -> AsyncGenerator[FetchProgress | Checkout]:
        """Raise."""
        yield FetchProgress(message="Trying", data={})
        raise RemoteUnreachable("There is no network on a stage.")

    async def release(self, checkout: Checkout) -> None:
        """Do nothing."""


@dataclass(slots=True)
class StageSandboxes:
    """Implements `SandboxProvider` as far as ``/ready`` asks: the self-test's result is given."""

    result: Isolation = field(
        default_factory=lambda: Isolation(level=IsolationLevel.FULL, reason="every test passed")
    )
    name: str = "local"

    async def isolation(self) -> Isolation:
        """Return the given result."""
        return self.result

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return none."""
        return frozenset()

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Raise; no scripted run asks for it."""
        raise SandboxUnavailable("There is no sandbox on a stage.")

    async def attach(self, sandbox_id: str) -> Sandbox:
        """Raise; there never was one."""
        raise SandboxNotFound(f"There is no sandbox {sandbox_id}.")

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class Stage:
    """An engine whose runs follow a script."""

    def __init__(self, *, room: int = 100) -> None:
        """Take how many unfinished runs a caller may have."""
        self.store = MemoryStore()
        self.sandboxes = StageSandboxes()
        services = Services(
            store=self.store,
            repositories=NoRepositories(),
            sandboxes={"local": self.sandboxes},
            agents={},
        )
        self.engine = RunEngine(services, EngineLimits(unfinished_per_caller=room))
        self.step = Step(name="implementation", run=self._perform, progress=90)
        self._script: tuple[StatusUpdate | End, ...] = ()
        self._cues: defaultdict[str, asyncio.Queue[StatusUpdate | End]] = defaultdict(asyncio.Queue)

    def script(self, *cues: StatusUpdate | End) -> None:
        """Have every run that begins from now on play these cues first."""
        self._script = cues

    def cue(self, run_id: str, *cues: StatusUpdate | End) -> None:
        """Give one run its next cues."""
        for cue in cues:
            self._cues[run_id].put_nowait(cue)

    async def _perform(self, context: RunContext) -> AsyncGenerator[StatusUpdate]:
        for cue in self._script:
            self.cue(context.run.id, cue)
        while not isinstance(cue := await self._cues[context.run.id].get(), End):
            yield cue
        if cue.error is not None:
            raise cue.error
        context.outcome = cue.outcome
        if cue.diff is not None:
            context.patch = _patch(cue.diff)
            await self.store.save_patch(context.run.id, cue.diff)
            yield _patch_made(context.patch)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedServer:
    """A server over a stage: its URL, an HTTP client for it, and the stage."""

    url: str
    client: httpx.AsyncClient
    stage: Stage

    async def start(self, **changes: object) -> str:
        """Start a run over ``POST /runs`` and return its id."""
        answer = await self.client.post("/runs", json={**BODY, **changes})
        assert answer.status_code == 201, answer.text
        run_id: str = answer.json()["id"]
        return run_id

    async def play(self, *cues: StatusUpdate | End, **changes: object) -> str:
        """Start a run, give it these cues and an end, and return its id once it is finished."""
        run_id = await self.start(**changes)
        self.stage.cue(run_id, *cues, End())
        await self.finished(run_id)
        return run_id

    async def finished(self, run_id: str) -> None:
        """Return when the run has its summary."""
        async for _ in self.stage.engine.follow(run_id):
            pass


@asynccontextmanager
async def staged_server(
    monkeypatch: pytest.MonkeyPatch,
    config: ApiConfig = CONFIG,
    *,
    room: int = 100,
    **changes: object,
) -> AsyncGenerator[StagedServer]:
    """Serve a stage. ``changes`` are fields of the API's settings."""
    stage = Stage(room=room)
    monkeypatch.setattr(runner, "STEPS", (stage.step,))
    await stage.engine.open(MemoryEngine())
    app = create_app(stage.engine, replace(config, **changes))  # type: ignore[arg-type] # fields by name
    async with serving(app, stage.engine) as url, httpx.AsyncClient(base_url=url) as client:
        yield StagedServer(url=url, client=client, stage=stage)
    await stage.engine.close()


def note(text: str, *, progress: int | None = None) -> StatusUpdate:
    """Return an update as an agent gives it."""
    return StatusUpdate(event="agent.message", message=text, type=EventType.INFO, progress=progress)


def _patch(diff: bytes) -> Patch:
    change = FileChange(path="greeting.txt", kind=ChangeKind.MODIFIED, added=1, removed=1)
    return Patch(diff=diff, changes=(change,) if diff else ())


def _patch_made(patch: Patch) -> StatusUpdate:
    return StatusUpdate(
        event=PATCH_MADE, message="Patch made", data={"files_modified": len(patch.changes)}
    )
