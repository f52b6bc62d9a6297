"""The provider's self-test: judges a real box by what it sees and may do, on both sides."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Isolation, IsolationLevel, Sandbox
from patchkiln.sandboxes.local.box.layout import BOX_UID, HOST_GID, HOST_UID
from patchkiln.sandboxes.local.selftest.diagnosis import UNMASK, Diagnosis, explain_overlay
from patchkiln.sandboxes.local.selftest.facts import MachineFacts

_TIMEOUT_S = 20.0
_NO_CAPABILITIES = "0" * 16
_SECCOMP_FILTER = "2"
_OVERLAY = "overlay"
_PROCESSES = "processes"
# What the probe must print, and what a line that is missing or other means.
_EXPECTED = {
    "Uid:": (str(BOX_UID), "commands do not run as the box's own user"),
    "CapEff:": (_NO_CAPABILITIES, "commands keep capabilities"),
    "NoNewPrivs:": ("1", "commands could gain privileges"),
    "Seccomp:": (_SECCOMP_FILTER, "the seccomp filter does not hold"),
    _PROCESSES: ("own", "other processes are visible"),
    "control": ("works", "the probe cannot look at processes"),
    "exposed": ("", "the inside of other processes is visible"),
    "scores": ("", "other processes can be put at a disadvantage"),
    "routes": ("0", "there is a way to the network"),
    "system": ("", "/usr can be written"),
    "settings": ("", "/etc can be written"),
    "passwords": ("", "the host's passwords are visible"),
    "host": ("", "the host's files are visible"),
    "workspace": ("writable", "the workspace cannot be written"),
    _OVERLAY: ("works", "directories of the workspace cannot be replaced"),
}
_NO_CGROUP = Diagnosis(
    "There is no control group that the server may write, so that each sandbox watches over its "
    "own memory.",
    "Start the server by 'systemd-run --user --scope -p Delegate=yes', set Delegate=yes in its "
    "unit, or start it as root.",
)
_SHARED_PROC = Diagnosis(
    "This container hides parts of its /proc, so that each sandbox is shown the container's: it "
    "sees names, command lines, users, mounts and connections of the container's processes, "
    "cannot signal or open them, and finds its own under other numbers.",
    UNMASK,
)
# A second fence: without it namespaces, rights and the filter hold alone.
_NO_LANDLOCK = "missing (a second fence around files): use Linux 5.13 or newer with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the self-test found out about a box.

    ``shared_proc``: it was shown the machine's own ``/proc``, for want of one of its own.
    ``maker`` is the other program that made its namespaces, None: the server did.
    """

    findings: Mapping[str, str]
    machine: MachineFacts
    host_uid: int | None
    as_root: bool
    cgroup: int
    landlock: int
    python: str | None
    shared_proc: bool = False
    maker: str | None = None


async def probe(box: Sandbox, hidden: Path) -> dict[str, str]:
    """Run the probe in a box made over `make_base`; ``hidden`` is a place that it must not see."""
    script = files(__package__ or "").joinpath("probe.sh").read_text(encoding="utf-8")
    argv = ("/bin/sh", "-c", script, "probe", str(hidden))
    output = await capture(await box.exec(argv, timeout_s=_TIMEOUT_S))
    lines = output.stdout.decode(errors="replace").splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


async def python_version(box: Sandbox, program: str, *build: str) -> str | None:
    """Return ``3.11`` or the like for a Python that runs in a box, None where it does not.

    Nor where it is not of a build, a `sys.version`: an interpreter that does not find its own
    library at its new place may load another one's, which fits its modules badly.
    """
    code = (
        "import sys; sys.argv[1:] in ([], [sys.version]) or sys.exit(1);"
        "print('%d.%d' % sys.version_info[:2])"
    )
    output = await capture(await box.exec((program, "-c", code, *build), timeout_s=_TIMEOUT_S))
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


def judge(seen: Observation, refusal: Diagnosis | None = None) -> Isolation:
    """Return the level, with the reason why it is no higher and the fix.

    ``refusal`` is why the server itself could make no box.
    """
    faults = _faults(seen)
    if faults:
        return _failed(seen, faults)
    lacks = list(_lacks(seen, refusal))
    return Isolation(
        level=_level(seen),
        reason=" ".join(lack.reason for lack in lacks) or "Every part of the isolation works.",
        remedy=" ".join(lack.remedy for lack in lacks if lack.remedy),
        facts=_facts(seen),
    )


def _level(seen: Observation) -> IsolationLevel:
    if seen.shared_proc:
        return IsolationLevel.MASKED_PROC
    return IsolationLevel.FULL if seen.cgroup else IsolationLevel.NO_CGROUP


def _lacks(seen: Observation, refusal: Diagnosis | None) -> Iterator[Diagnosis]:
    if seen.maker is not None:
        why = f"because the server itself cannot: {refusal.reason}" if refusal else "as asked."
        yield Diagnosis(
            f"Sandboxes are made by {seen.maker}, {why} They copy the workspace, cannot be kept or "
            "forked, watch over their own memory, and their watches of files are not bounded.",
            refusal.remedy if refusal else "",
        )
        return
    if seen.shared_proc:
        yield _SHARED_PROC
    if not seen.cgroup:
        yield _NO_CGROUP


def _failed(seen: Observation, faults: Mapping[str, str]) -> Isolation:
    cause = explain_overlay(seen.machine) if set(faults) == {_OVERLAY} else None
    reason, remedy = cause or Diagnosis(
        f"The sandbox failed its own test: {'; '.join(faults.values())}.",
        "Report it as a bug, with the output of 'patchkiln doctor'.",
    )
    return Isolation(level=IsolationLevel.NONE, reason=reason, remedy=remedy, facts=_facts(seen))


def _faults(seen: Observation) -> dict[str, str]:
    faults = {
        name: text
        for name, (expected, text) in _EXPECTED.items()
        if seen.findings.get(name, "") != expected
    }
    if seen.shared_proc:
        faults.pop(_PROCESSES, None)
    expected_uid = HOST_UID if seen.as_root else os.getuid()
    if seen.host_uid not in {None, expected_uid}:
        faults["host_uid"] = "the box is another user of this machine than it should be"
    return faults


def _facts(seen: Observation) -> dict[str, str]:
    version = seen.landlock
    return {
        "kernel": f"Linux {seen.machine.release} {seen.machine.architecture}",
        "made by": seen.maker or "the server",
        "started by": "root" if seen.as_root else "an ordinary user",
        "control groups": f"version {seen.cgroup}" if seen.cgroup else "none that may be written",
        "process table": "the container's" if seen.shared_proc else "its own",
        "landlock": f"version {version}" if version else _NO_LANDLOCK,
        "seccomp": "filter",
        "python in the sandbox": seen.python or "none",
    }
