"""Looks at what a run needs on this machine, one finding a thing."""

import asyncio
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from patchkiln.bootstrap.services import default_agent, open_sandboxes
from patchkiln.bootstrap.storage import describe_store
from patchkiln.cli.wording import size
from patchkiln.domain.event import JsonValue
from patchkiln.errors import PatchkilnError, SettingsError, StoreError
from patchkiln.ports.sandbox import Capability, Isolation, IsolationLevel, SandboxProvider
from patchkiln.settings import SERVED_SANDBOXES, Settings

LOW_DISK_BYTES = 2 << 30


class State(StrEnum):
    """``LIMITED`` works with less; ``MISSING`` keeps every run from starting; ``OFF`` is unused."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at, and the exact fix where there is something to mend."""

    name: str
    state: State
    text: str
    detail: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, JsonValue]:
        """Return the object that ``--json`` prints."""
        return {
            "name": self.name,
            "state": self.state.value,
            "text": self.text,
            "detail": self.detail,
            "fix": self.fix,
        }


async def examine(settings: Settings) -> list[Finding]:
    """Return the findings, the sandbox first. The data directory is made if need be."""
    return [
        *await _sandboxes(settings),
        await asyncio.to_thread(_git),
        await _store(settings),
        _data_directory(settings.data_dir),
        await asyncio.to_thread(_model, settings),
    ]


async def _sandboxes(settings: Settings) -> list[Finding]:
    async with open_sandboxes(settings, settings.sandbox) as providers:
        found = [
            _isolation(provider, await provider.isolation(), first=name == settings.sandbox[0])
            for name, provider in providers.items()
        ]
    unused = [name for name in SERVED_SANDBOXES if name not in settings.sandbox]
    key = ", though E2B_API_KEY is set" if settings.e2b_api_key is not None else ""
    text = f"e2b is not served by this version{key}"
    if unused:
        names = ",".join([*settings.sandbox, *unused])
        text = f"{' and '.join(unused)}: add with PATCHKILN_SANDBOX={names}; {text}"
    return [*found, Finding(name="others", state=State.OFF, text=text)]


def _isolation(provider: SandboxProvider, isolation: Isolation, *, first: bool) -> Finding:
    """Describe a provider; the first is what every request gets that names none."""
    states = {IsolationLevel.FULL: State.OK}
    if first:
        states[IsolationLevel.NONE] = State.MISSING
    facts = [f"{name}: {value}" for name, value in isolation.facts.items()]
    if isolation.level is not IsolationLevel.NONE:
        lacks = sorted(set(Capability) - provider.capabilities)
        facts.append(f"cannot: {', '.join(lacks)}" if lacks else "can: all that a sandbox may")
    return Finding(
        name="sandbox",
        state=states.get(isolation.level, State.LIMITED),
        text=f"{provider.name}, isolation level {isolation.level.value}: {isolation.reason}",
        detail="\n".join(facts),
        fix=isolation.remedy,
    )


def _git() -> Finding:
    program = shutil.which("git")
    if program is None:
        fix = "Install it, on Debian with 'apt-get install git'."
        return Finding(name="git", state=State.MISSING, text="not found", fix=fix)
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - the git that was found
    if done.returncode != 0:
        fix = f"Run '{program} --version' and mend what it says."
        return Finding(name="git", state=State.MISSING, text="does not run", fix=fix)
    return Finding(
        name="git", state=State.OK, text=done.stdout.removeprefix("git version ").strip()
    )


async def _store(settings: Settings) -> Finding:
    try:
        text = await describe_store(settings)
    except (SettingsError, StoreError) as error:
        return Finding(name="store", state=State.MISSING, text=error.message, fix=error.remedy)
    return Finding(name="store", state=State.OK, text=text)


def _data_directory(path: Path) -> Finding:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            free = shutil.disk_usage(path).free
    except OSError as error:
        return Finding(
            name="data",
            state=State.MISSING,
            text=f"{path} cannot be written: {error.strerror}",
            fix="Set PATCHKILN_DATA_DIR to a directory that this user may write.",
        )
    low = free < LOW_DISK_BYTES
    return Finding(
        name="data",
        state=State.LIMITED if low else State.OK,
        text=f"{path}, {size(free)} free",
        fix="Free some disk space; clones and checkouts live there." if low else "",
    )


def _model(settings: Settings) -> Finding:
    agent = default_agent(settings)
    if settings.model is None:
        return Finding(
            name="model",
            state=State.OFF,
            text=f"none; the agent '{agent}' works without one, for the prompts that it knows",
            fix="For any prompt set PATCHKILN_MODEL, for example anthropic:claude-sonnet-4-5, "
            "and the provider's key.",
        )
    from patchkiln.models import Models  # noqa: PLC0415 - pydantic-ai costs 1.5 s

    models = Models(
        default=settings.model, keys=settings.model_keys, base_url=settings.model_base_url
    )
    try:
        models.model(None)
    except PatchkilnError as error:
        text = f"{settings.model}: {error.message}"
        return Finding(name="model", state=State.MISSING, text=text, fix=error.remedy)
    return Finding(name="model", state=State.OK, text=f"{settings.model} for the agent '{agent}'")
