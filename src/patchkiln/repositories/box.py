"""The fetch box: a sandbox for the git commands of one fetch, and what git is told there.

The settings are those that the evidence of the design calls for: no redirects, no protocol but the
URL's, no hooks, no submodules, no prompts, no configuration of anybody else, every object checked.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from patchkiln.domain.repository import RepositoryUrl
from patchkiln.ports.execution import ExitReason, ExitStatus
from patchkiln.ports.repository import FetchProgress
from patchkiln.ports.sandbox import (
    HostMount,
    Sandbox,
    SandboxLimits,
    SandboxProvider,
    SandboxSpec,
    new_sandbox_id,
)
from patchkiln.repositories.addresses import mounts, network
from patchkiln.repositories.cache import CHECKOUTS, STORE, Entry
from patchkiln.repositories.progress import GitStderr

# Takes progress as it comes; must not block.
Tell: TypeAlias = Callable[[FetchProgress], None]

CACHE = "/cache"
# A tree as deep as git can make it may take long to delete; the next round goes on.
REMOVE_S = 60.0
_CONFIG_FILE = "/tmp/gitconfig"  # noqa: S108 - inside the box
MAX_OUTPUT_BYTES = 16 << 20
# Blobs above this are streamed to disk instead of being held in memory.
_BIG_FILE = "64m"
# Old commits with dates and addresses that no git writes today: harmless, and found in well-known
# projects. Everything that could hurt a checkout stays an error (git-fsck(1)).
_HARMLESS = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)


def script(name: str) -> str:
    """Return the text of one of this package's shell scripts."""
    return files("patchkiln.repositories").joinpath(f"{name}.sh").read_text(encoding="utf-8")


def git_config(*, scheme: str, stall_s: int) -> str:
    """Return the only configuration file that git reads in the box."""
    sections: dict[str, dict[str, str]] = {
        "protocol": {"allow": "never"},
        f'protocol "{scheme}"': {"allow": "always"},
        "http": {"followRedirects": "false", "lowSpeedLimit": "1", "lowSpeedTime": str(stall_s)},
        "core": {
            "hooksPath": "/dev/null",
            "fsmonitor": "false",
            "bigFileThreshold": _BIG_FILE,
            "protectHFS": "true",
            "protectNTFS": "true",
        },
        "safe": {"directory": "*"},
        "gc": {"auto": "0"},
        "maintenance": {"auto": "false"},
        "submodule": {"recurse": "false"},
        "transfer": {"fsckObjects": "true", "unpackLimit": "1"},
        'fetch "fsck"': dict.fromkeys(_HARMLESS, "ignore"),
        "checkout": {"workers": "0"},
    }
    lines: list[str] = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"\t{key} = {value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


class Command:
    """A command in the box: run it, then read how it ended."""

    def __init__(self, sandbox: Sandbox, argv: Sequence[str]) -> None:
        """Take what to run and where."""
        self._sandbox = sandbox
        self._argv = argv
        self._stdout = bytearray()
        self._stderr = GitStderr()
        self._status = ExitStatus(exit_code=-1, reason=ExitReason.KILLED, duration_ms=0)

    async def run(self, tell: Tell | None = None) -> None:
        """Run it to its end, telling a little of git's progress on the way."""
        execution = await self._sandbox.exec(self._argv, cwd="/", max_output_bytes=MAX_OUTPUT_BYTES)
        async for chunk in execution:
            if chunk.stream == "stdout":
                self._stdout += chunk.data
                continue
            for progress in self._stderr.feed(chunk.data):
                if tell is not None:
                    tell(progress)
        self._status = await execution.wait()

    @property
    def stdout(self) -> str:
        """Return what the command printed."""
        return self._stdout.decode("utf-8", "surrogateescape")

    @property
    def stderr_tail(self) -> str:
        """Return the last lines of what it complained about."""
        return self._stderr.tail

    @property
    def exit_code(self) -> int:
        """Return its exit code."""
        return self._status.exit_code

    @property
    def failed(self) -> bool:
        """Tell whether it did not end well."""
        return self.exit_code != 0


@asynccontextmanager
async def fetch_box(
    provider: SandboxProvider,
    url: RepositoryUrl,
    places: Sequence[HostMount],
    *,
    stall_s: int,
    max_bytes: int,
) -> AsyncGenerator[Sandbox]:
    """Lend a box that sees these places of the cache and reaches one remote."""
    usual = SandboxLimits()
    spec = SandboxSpec(
        id=new_sandbox_id(),
        # A sandbox may take the size of its disk for that of its largest file.
        limits=replace(usual, disk_bytes=max(usual.disk_bytes, max_bytes)),
        env=_environment(url.scheme),
        network=network(url),
        mounts=(*places, *mounts(url)),
    )
    async with _lent(provider, spec) as sandbox:
        config = git_config(scheme=url.scheme, stall_s=stall_s)
        await sandbox.write(_CONFIG_FILE, config.encode())
        yield sandbox


@asynccontextmanager
async def cache_box(provider: SandboxProvider, entry: Entry) -> AsyncGenerator[Sandbox]:
    """Lend a box without any network that sees one cache entry."""
    places = tuple(
        HostMount(source=entry.directory / name, target=f"{CACHE}/{name}", writable=True)
        for name in (CHECKOUTS, STORE)
        if (entry.directory / name).is_dir()
    )
    async with _lent(provider, SandboxSpec(id=new_sandbox_id(), mounts=places)) as sandbox:
        yield sandbox


def fetch_places(entry: Entry, new: Path) -> tuple[HostMount, ...]:
    """Return all that a fetch needs to write: the store, and the checkout that it makes."""
    return (
        HostMount(source=entry.store, target=f"{CACHE}/{STORE}", writable=True),
        HostMount(source=new, target=f"{CACHE}/new", writable=True),
    )


async def remove(sandbox: Sandbox, names: Sequence[str]) -> None:
    """Delete names below the cache entry, however deep; a failure leaves them for next time."""
    execution = await sandbox.exec(("rm", "-rf", "--", *names), cwd=CACHE, timeout_s=REMOVE_S)
    await execution.wait()


@asynccontextmanager
async def _lent(provider: SandboxProvider, spec: SandboxSpec) -> AsyncGenerator[Sandbox]:
    sandbox = await provider.create(spec)
    try:
        yield sandbox
    finally:
        await sandbox.destroy()


def _environment(scheme: str) -> dict[str, str]:
    return {
        "GIT_ALLOW_PROTOCOL": scheme,
        "GIT_ASKPASS": "/bin/false",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": _CONFIG_FILE,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        # What the network refuses then fails as anywhere, in words of git's that are understood.
        "NO_PROXY": "*",
        "no_proxy": "*",
    }
