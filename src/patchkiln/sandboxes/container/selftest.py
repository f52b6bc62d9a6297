"""The provider's self-test: judges a real container by what it sees and may do."""

from collections.abc import Mapping
from dataclasses import dataclass

from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Isolation, IsolationLevel, Sandbox
from patchkiln.sandboxes.container.host import Host
from patchkiln.sandboxes.local.box.layout import HOST_UID

_TIMEOUT_S = 20.0
_NO_CAPABILITIES = "0" * 16
# What the probe must print, and what a line that is missing or other means.
_EXPECTED = {
    "Uid:": (str(HOST_UID), "commands do not run as the sandbox's own user"),
    "CapEff:": (_NO_CAPABILITIES, "commands keep capabilities"),
    "NoNewPrivs:": ("1", "commands could gain privileges"),
    "Seccomp:": ("2", "the seccomp filter does not hold"),
    "processes": ("own", "other processes are visible"),
    "routes": ("0", "there is a way to the network"),
    "system": ("", "/usr can be written"),
    "settings": ("", "/etc can be written"),
    "host": ("", "the host's files are visible"),
    "workspace": ("writable", "the workspace cannot be written"),
}
_MEMORY_BOUNDS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_BOUND = "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the self-test found out: of the engine's machine, and in a container."""

    host: Host
    findings: Mapping[str, str]
    bounded: bool
    python: str | None


async def memory_is_bounded(box: Sandbox, limit_bytes: int) -> bool:
    """Tell whether a control group holds a container to its memory, as it was asked to."""
    script = f"cat {' '.join(_MEMORY_BOUNDS)} 2>/dev/null; true"
    said = await capture(await box.exec(("/bin/sh", "-c", script), timeout_s=_TIMEOUT_S))
    word = said.stdout.decode(errors="replace").strip()
    return word.isdecimal() and int(word) <= limit_bytes


def judge(seen: Observation) -> Isolation:
    """Return the level, with the reason why it is no higher and the fix."""
    faults = [
        text
        for name, (expected, text) in _EXPECTED.items()
        if seen.findings.get(name, "") != expected and not _untold(name, seen)
    ]
    if faults:
        return Isolation(
            level=IsolationLevel.NONE,
            reason=f"The container failed its own test: {'; '.join(faults)}.",
            remedy="Report it as a bug, with the output of 'patchkiln doctor'.",
            facts=_facts(seen),
        )
    if not seen.bounded:
        return Isolation(
            level=IsolationLevel.NO_CGROUP,
            reason="The container engine has no control group that bounds memory, so that each "
            "sandbox watches over its own.",
            remedy="Give the engine's user control groups of version 2 with the controllers "
            "'memory' and 'pids' (Delegate=yes in systemd), or use an engine that runs as root.",
            facts=_facts(seen),
        )
    return Isolation(
        level=IsolationLevel.FULL,
        reason="Containers share this machine's kernel; every other part of the isolation works."
        if not seen.host.own_kernel
        else "Every part of the isolation works, and gVisor stands before the machine's kernel.",
        facts=_facts(seen),
    )


def _untold(name: str, seen: Observation) -> bool:
    """Tell whether a kernel says nothing of it, and cannot be asked: gVisor's /proc is shorter."""
    return seen.host.own_kernel and name == "NoNewPrivs:" and name not in seen.findings


def _facts(seen: Observation) -> dict[str, str]:
    host = seen.host
    return {
        "engine": f"{host.name} {host.version}",
        "engine runs as": "an ordinary user" if host.rootless else "root",
        "runtime": host.runtime,
        "kernel": "gVisor's own" if host.own_kernel else "shared with this machine",
        "control groups": f"version {host.cgroups}" if seen.bounded else "none that bound memory",
        "seccomp": "the engine's filter, and below it the one of local boxes",
        "programs": host.image or "this machine's own, read-only",
        "python in the sandbox": seen.python or "none",
    }
