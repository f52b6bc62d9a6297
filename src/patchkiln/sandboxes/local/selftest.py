"""The provider's self-test: judges a real box by what it sees and may do, on both sides."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Isolation, IsolationLevel, Sandbox
from patchkiln.sandboxes.local import syscalls
from patchkiln.sandboxes.local.layout import BOX_UID, HOST_GID, HOST_UID

_TIMEOUT_S = 20.0
_NO_CAPABILITIES = "0" * 16
_SECCOMP_FILTER = "2"
# What the probe must print, and what a line that is missing or other means.
_EXPECTED = {
    "Uid:": (str(BOX_UID), "commands do not run as the box's own user"),
    "CapEff:": (_NO_CAPABILITIES, "commands keep capabilities"),
    "NoNewPrivs:": ("1", "commands could gain privileges"),
    "Seccomp:": (_SECCOMP_FILTER, "the seccomp filter does not hold"),
    "processes": ("own", "other processes are visible"),
    "routes": ("0", "there is a way to the network"),
    "system": ("", "/usr can be written"),
    "settings": ("", "/etc can be written"),
    "passwords": ("", "the host's passwords are visible"),
    "host": ("", "the host's files are visible"),
    "workspace": ("writable", "the workspace cannot be written"),
    "overlay": ("works", "directories of the workspace cannot be replaced"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the self-test found out about a box."""

    findings: Mapping[str, str]
    host_uid: int | None
    as_root: bool
    cgroup: int
    landlock: int
    python: str | None


async def probe(box: Sandbox, hidden: Path) -> dict[str, str]:
    """Run the probe in a box made over `make_base`; ``hidden`` is a place that it must not see."""
    script = files("patchkiln.sandboxes.local").joinpath("probe.sh").read_text(encoding="utf-8")
    argv = ("/bin/sh", "-c", script, "probe", str(hidden))
    output = await capture(await box.exec(argv, timeout_s=_TIMEOUT_S))
    lines = output.stdout.decode(errors="replace").splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


async def python_version(box: Sandbox, program: str) -> str | None:
    """Return ``3.11`` or the like for a Python that runs in a box, None where it does not."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    output = await capture(await box.exec((program, "-c", code), timeout_s=_TIMEOUT_S))
    version = output.stdout.decode(errors="replace").strip()
    return version if output.status.exit_code == 0 and version else None


def make_base(directory: Path) -> None:
    """Make the checkout that the probe works on. Raises `OSError`."""
    below = directory / "kept" / "below"
    below.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        for place in (directory, directory / "kept", below):
            os.chown(place, HOST_UID, HOST_GID)


async def host_uid(pid: int) -> int | None:
    """Return who a process is on this machine; None where that is hidden from the server."""
    try:
        status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text, "utf-8")
    except OSError:
        return None
    line = next(line for line in status.splitlines() if line.startswith("Uid:"))
    return int(line.split()[1])


def judge(seen: Observation) -> Isolation:
    """Return the level, with the reason why it is no higher and the fix."""
    faults = _faults(seen)
    if faults:
        return Isolation(
            level=IsolationLevel.NONE,
            reason=f"The sandbox failed its own test: {'; '.join(faults)}.",
            remedy="Report it as a bug, with the output of 'patchkiln doctor'.",
            facts=_facts(seen),
        )
    if not seen.cgroup:
        return Isolation(
            level=IsolationLevel.NO_CGROUP,
            reason="There is no control group that the server may write, so that each sandbox "
            "watches over its own memory.",
            remedy="Start the server by 'systemd-run --user --scope -p Delegate=yes', set "
            "Delegate=yes in its unit, or start it as root.",
            facts=_facts(seen),
        )
    return Isolation(
        level=IsolationLevel.FULL,
        reason="Every part of the isolation works.",
        facts=_facts(seen),
    )


def _faults(seen: Observation) -> list[str]:
    faults = [
        text
        for name, (expected, text) in _EXPECTED.items()
        if seen.findings.get(name, "") != expected
    ]
    expected_uid = HOST_UID if seen.as_root else os.getuid()
    if seen.host_uid not in {None, expected_uid}:
        faults.append("the box is another user of this machine than it should be")
    return faults


def _facts(seen: Observation) -> dict[str, str]:
    version = seen.landlock
    return {
        "kernel": f"Linux {os.uname().release} {syscalls.MACHINE}",
        "started by": "root" if seen.as_root else "an ordinary user",
        "control groups": f"version {seen.cgroup}" if seen.cgroup else "none that may be written",
        "landlock": f"version {version}" if version else "missing: use Linux 5.13 or newer with it",
        "seccomp": "filter",
        "python in the sandbox": seen.python or "none",
    }
