"""Tries the portable probes in several sandboxes, and writes the table of docs/security.md.

Each sandbox is started in the strict way that its documentation describes; `PEERS` says how. A
sandbox that is not installed is left out, and the table says so. Nothing of this is run by CI but
``--list``.
"""
# ruff: noqa: INP001, S108, S603, S607, T201 - a script that prints, starts the sandboxes that it
# compares, by their names, and names their own /tmp

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.security.as_user import USER_ID
from tests.security.machine import Machine
from tests.security.sandbox.bait import Bait
from tests.security.sandbox.conftest import SMALL
from tests.security.sandbox.probes import PORTABLE
from tests.security.sandbox.probes.numbered import TITLES, group_of
from tests.security.sandbox.probes.program import Finding, Probe, ProbeBroken
from tests.security.sandbox.test_numbers import names_by_number

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security.md"
BEGIN = "<!-- escape report: made by scripts/escape-report -->\n"
END = "<!-- end of the escape report -->\n"
USER = "escape-report"
TIMEOUT_S = 90
SMALL_BYTES = 16 << 20
SHOWN = 2
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
IMAGE = "localhost/escape-report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Who starts a sandbox, from where, and what must stay out of reach."""

    name: str
    uid: int
    work: Path
    bait: Bait

    def run(self, argv: Sequence[str], *, keep: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Run a command of the host as this user; its processes are gone afterwards."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.bait.home), **self.bait.environment}
        process = subprocess.Popen(
            argv,
            cwd=self.work,
            env={**env, **(keep or {})},
            user=self.uid or None,
            group=self.uid or None,
            extra_groups=[] if self.uid else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        return out.decode(errors="replace"), err.decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A sandbox: how a command is wrapped to run in it, and how that is told to a reader."""

    name: str
    version: Callable[[], str]
    wrap: Callable[[Launch, Sequence[str]], list[str]]
    how: str


def _nothing(_launch: Launch, argv: Sequence[str]) -> list[str]:
    return list(argv)


def _bubblewrap(_launch: Launch, argv: Sequence[str]) -> list[str]:
    disks = [
        word
        for place in ("/tmp", "/workspace", "/home/user")
        for word in ("--size", str(SMALL_BYTES), "--tmpfs", place)
    ]
    links = [
        word
        for name in ("bin", "sbin", "lib", "lib64")
        for word in ("--symlink", f"usr/{name}", f"/{name}")
    ]
    return [
        *("bwrap", "--unshare-all", "--unshare-user", "--disable-userns"),
        *("--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"),
        *("--die-with-parent", "--new-session", "--clearenv"),
        *("--setenv", "PATH", PATH, "--setenv", "HOME", "/home/user"),
        *("--ro-bind", "/usr", "/usr", *links, "--proc", "/proc", "--dev", "/dev"),
        *(*disks, "--chdir", "/workspace", "--remount-ro", "/"),
        *argv,
    ]


def _sandbox_runtime(launch: Launch, argv: Sequence[str]) -> list[str]:
    settings = launch.work.parent / f"{launch.name}.json"
    denied = ["/root", "/home", str(launch.bait.directory), str(ROOT)]
    rules = {
        "network": {"allowedDomains": [], "deniedDomains": []},
        "filesystem": {
            "denyRead": denied,
            "allowRead": ["."],
            "allowWrite": ["."],
            "denyWrite": [],
        },
    }
    settings.write_text(json.dumps(rules))
    settings.chmod(0o644)
    return ["srt", "--settings", str(settings), "--", *argv]


PODMAN = ("podman", "--cgroup-manager=cgroupfs", "--runtime", "runc")


def _podman(launch: Launch, argv: Sequence[str]) -> list[str]:
    as_root = ("--uidmap", "0:200000:65536", "--memory", "128m", "--pids-limit", "64")
    return [
        *(*PODMAN, "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "all"),
        *("--security-opt", "no-new-privileges", "--user", "1000:1000"),
        *("--ulimit", f"nofile={SMALL['open_files']}", "--ulimit", f"nproc={SMALL['processes']}"),
        *("--ulimit", "core=0", "--shm-size", str(SMALL_BYTES)),
        *("--cgroupns", "private", *(as_root if launch.uid == 0 else ())),
        *("--tmpfs", f"/tmp:size={SMALL_BYTES}", "--tmpfs", f"/workspace:size={SMALL_BYTES}"),
        *("--tmpfs", f"/home/user:size={SMALL_BYTES}", "--volume", "/usr:/usr:ro"),
        *("--workdir", "/workspace", IMAGE),
        *argv,
    ]


def _said(*argv: str) -> Callable[[], str]:
    """Return what asks a program for its version; empty where it is not installed."""

    def ask() -> str:
        if shutil.which(argv[0]) is None:
            return ""
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        words = done.stdout.split()
        return words[-1] if words else ""

    return ask


PEERS = (
    Peer(
        name="bubblewrap",
        version=_said("bwrap", "--version"),
        wrap=_bubblewrap,
        how="`--unshare-all --disable-userns --cap-drop ALL --clearenv --new-session "
        "--die-with-parent`, a root of its own with nothing but `/usr` read-only, `/proc`, `/dev` "
        "and disks of 16 MiB. It brings no filter of system calls and no limit but the disks'; who "
        "uses it may add both. The environment is read from its own first process, which `env -i` "
        "before it would prevent.",
    ),
    Peer(
        name="sandbox-runtime",
        version=_said("srt", "--version"),
        wrap=_sandbox_runtime,
        how="`srt` with a settings file that allows no domain, denies reads of every home and of "
        "the data, and writes anywhere but in the working directory. It shows the rest of the host "
        "and the environment by design, and sets no limits.",
    ),
    Peer(
        name="Podman",
        version=_said("podman", "--version"),
        wrap=_podman,
        how="`--network none --read-only --cap-drop all --security-opt no-new-privileges --user "
        "1000`, limits of processes and descriptors, disks of 16 MiB, its own filter of system "
        "calls, `--cgroupns private`, `runc`. For the ordinary user it is rootless, which cannot "
        "limit memory with control groups of version 1; for root a range of ids and limits of "
        "memory and processes are set besides.",
    ),
    Peer(
        name="no sandbox",
        version=lambda: "-",
        wrap=_nothing,
        how="the probe as a plain process, which shows that it is alive. What would hurt the "
        "machine is not run.",
    ),
)


def main() -> int:
    """Run everything and write the page, or only list the probes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="show the list of probes and stop")
    parser.add_argument("--print", action="store_true", help="print the table, write no page")
    arguments = parser.parse_args()
    if arguments.list:
        return _list()
    if os.getuid() != 0:
        print("Run it as root: it starts sandboxes for root and for a user that it makes.")
        return 1
    table = _report()
    if arguments.print:
        print(table)
    else:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}{table}{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


def _list() -> int:
    portable = {probe.number for probe in PORTABLE}
    tests = names_by_number()
    group = ""
    for number, title in TITLES.items():
        if group != (group := group_of(number)):
            print(f"\n{group}")
        held_by = [*(["portable"] if number in portable else []), *tests.get(number, [])]
        print(f"{number:4} {title}: {', '.join(held_by)}")
    return 0


Results = dict[tuple[str, str, int], str]


def _report() -> str:
    peers = [peer for peer in PEERS if peer.version()]
    results: Results = {}
    with _ordinary_user() as uid:
        for name, owner in (("root", 0), ("user", uid)):
            with (
                tempfile.TemporaryDirectory(prefix="escape-report-") as scratch,
                Bait(owner) as bait,
            ):
                Path(scratch).chmod(0o755)
                launch = Launch(name=name, uid=owner, work=Path(scratch, "work"), bait=bait)
                _try_ours(launch, results)
                for peer in peers:
                    _try_peer(peer, launch, results)
    return _page(peers, results)


@contextmanager
def _ordinary_user() -> Iterator[int]:
    """Make a user with subordinate ids, as rootless containers want, and take it away again."""
    subprocess.run(["useradd", "--create-home", "--uid", str(USER_ID), USER], check=True)
    try:
        yield USER_ID
    finally:
        subprocess.run(["userdel", "--remove", USER], check=True)


def _try_ours(launch: Launch, results: Results) -> None:
    data_dir = Path(tempfile.mkdtemp(prefix="patchkiln-report-"))
    machine = Machine("root" if launch.uid == 0 else "user", data_dir)
    try:
        for probe in PORTABLE:
            box = machine.box(limits=SMALL if probe.small else None)
            result = box.run(*probe.argv(launch.bait.told()))
            box.destroy()
            cell = _cell(launch.bait, probe, result.stdout, result.stderr)
            _note(results, "Patchkiln", launch, probe, cell)
    finally:
        machine.close()
        shutil.rmtree(data_dir)


def _try_peer(peer: Peer, launch: Launch, results: Results) -> None:
    keep = _prepare_podman(launch) if peer.name == "Podman" else {}
    for probe in PORTABLE:
        if peer.name == "no sandbox" and not probe.alone:
            _note(results, peer.name, launch, probe, "not run")
            continue
        launch.work.mkdir()
        os.chown(launch.work, launch.uid, launch.uid)
        argv = peer.wrap(launch, probe.argv(launch.bait.told()))
        out, err = launch.run(argv, keep=keep)
        _note(results, peer.name, launch, probe, _cell(launch.bait, probe, out, err))
        shutil.rmtree(launch.work)
    if peer.name == "Podman":
        launch.work.mkdir()
        launch.run([*PODMAN, "image", "rm", "--force", IMAGE], keep=keep)
        launch.run([*PODMAN, "system", "migrate"], keep=keep)  # ends what it left running
        launch.work.rmdir()


def _prepare_podman(launch: Launch) -> dict[str, str]:
    """Import an image that holds nothing but the places where things are mounted."""
    home = Path("/root" if launch.uid == 0 else f"/home/{USER}")
    runtime = home / ".escape-report"
    runtime.mkdir(mode=0o700, exist_ok=True)
    os.chown(runtime, launch.uid, launch.uid)
    archive = launch.work.parent / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("bin", "sbin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for name in ("usr", "etc", "proc", "sys", "dev", "tmp", "run", "workspace", "home/user"):
            place = tarfile.TarInfo(name)
            place.type, place.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(place)
    archive.chmod(0o644)
    launch.work.mkdir(exist_ok=True)
    keep = {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}
    launch.run([*PODMAN, "import", str(archive), IMAGE], keep=keep)
    launch.work.rmdir()
    return keep


def _cell(bait: Bait, probe: Probe, out: str, err: str) -> str:
    try:
        finding = bait.judge(probe, out, err)
    except ProbeBroken as broken:
        print(broken, file=sys.stderr)
        bait.effects({})
        return "no answer"
    if probe.after_end:
        time.sleep(1)
        survivors = bait.survivors()
        for pid in survivors:
            os.kill(pid, signal.SIGKILL)
        if survivors:
            finding = replace(finding, escaped=(*finding.escaped, "outlived the end"))
    return _words(finding)


def _words(finding: Finding) -> str:
    if finding.held:
        return "held"
    kind, items = ("**ESCAPED**", finding.escaped) if finding.escaped else ("open", finding.reached)
    more = f", {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{kind}: {', '.join(items[:SHOWN])}{more}"


def _note(results: Results, name: str, launch: Launch, probe: Probe, cell: str) -> None:
    results[name, launch.name, probe.number] = cell
    print(f"{name:16} {launch.name:5} {probe.number:3} {cell}", file=sys.stderr)


def _page(peers: Sequence[Peer], results: Results) -> str:
    names = ["Patchkiln", *(peer.name for peer in peers)]
    when, kernel = datetime.now(UTC), platform.release().partition("-")[0]
    lines = [
        f"Tried on {when:%Y-%m-%d}, on Linux {kernel}, by root and by a user.\n",
        f"| probe | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    group = ""
    for probe in PORTABLE:
        if group != (group := group_of(probe.number)):
            lines.append(f"| **{group}** |{' |' * len(names)}")
        cells = [_both(results, name, probe.number) for name in names]
        lines.append(f"| {probe.number} {probe.title} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(peers)]) + "\n"


def _both(results: Results, name: str, number: int) -> str:
    root, user = (results[name, who, number] for who in ("root", "user"))
    return root if root == user else f"root: {root}; user: {user}"


def _notes(peers: Sequence[Peer]) -> Iterator[str]:
    others = len(TITLES) - len(PORTABLE)
    yield (
        "*held*: the probe got nothing. *open*: it could use a part of the kernel, or take without "
        "end, but touched nothing of the host. **ESCAPED**: it read, changed or reached something "
        f"of the host that was laid out for it. The other {others} probes of the list speak to "
        "calls, or to git on the host, that the others do not have: not applicable to them."
    )
    yield "\nHow each was started:\n"
    for peer in peers:
        version = peer.version()
        yield f"* {peer.name}{'' if version == '-' else f' {version}'}: {peer.how}"
    missing = [peer.name for peer in PEERS if peer not in peers]
    if missing:
        yield f"\nNot installed where this was tried: {', '.join(missing)}."


if __name__ == "__main__":
    sys.exit(main())
