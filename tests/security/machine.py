"""The tests' side of the driver: machines that make sandboxes, and the sandboxes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tests.security.as_user import USER_ID

Identity: TypeAlias = Literal["root", "user"]

SECRET = "correct-horse-battery-staple"
TIMEOUT_S = 60.0
REPOSITORY = Path(__file__).parents[2]
IDENTITIES: tuple[Identity, ...] = ("root", "user") if os.getuid() == 0 else ("user",)
# Before every Python program that runs in a sandbox: `call` makes a system call and returns its
# error's name, or OK.
PREAMBLE = """
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *args):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = libc.syscall(ctypes.c_long(number), *words)
    return 'OK' if result >= 0 else errno.errorcode[ctypes.get_errno()]
def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'OK'
"""


class Refused(Exception):
    """The driver answered with an error of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command ended and what it printed."""

    exit_code: int
    reason: str
    stdout: str
    stderr: str


class Machine:
    """A driver process that root or an ordinary user runs."""

    def __init__(self, identity: Identity, data_dir: Path, *driven: str) -> None:
        """Start the driver; its environment holds a secret that no sandbox may see.

        ``driven`` names the conditions that the driver puts itself into first.
        """
        self.identity: Identity = identity
        self.data_dir = data_dir
        drop = identity == "user" and os.getuid() == 0
        self.host_uid = USER_ID if drop else os.getuid()
        if drop:
            os.chown(data_dir, USER_ID, USER_ID)
        module = "tests.security.as_user" if drop else "tests.security.driver"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(data_dir), *driven],
            cwd=REPOSITORY,
            env={**os.environ, "PATCHKILN_TEST_SECRET": SECRET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return the answer. Raises `Refused`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the driver ended"
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refused(f"{answer['error']}: {answer['message']}")
        return answer

    def box(
        self,
        *,
        limits: dict[str, int] | None = None,
        base: Path | None = None,
        mounts: tuple[dict[str, Any], ...] = (),
        network: tuple[dict[str, Any], ...] = (),
    ) -> "Box":
        """Make a sandbox."""
        answer = self.ask(
            "create",
            limits=limits or {},
            base=None if base is None else str(base),
            mounts=list(mounts),
            network=list(network),
        )
        return Box(self, answer["box"])

    def close(self) -> None:
        """End the driver, which destroys what is left."""
        with self.process:
            self.process.communicate(timeout=TIMEOUT_S)

    def kill(self) -> None:
        """Kill the driver as an accident would."""
        with self.process:
            self.process.kill()


class Box:
    """A sandbox of a machine."""

    def __init__(self, machine: Machine, name: str) -> None:
        """Take the machine and the sandbox's id."""
        self.machine = machine
        self.name = name

    def run(self, *argv: str, timeout_s: float = TIMEOUT_S, stdin_bytes: int = 0) -> Result:
        """Run a command to its end, with so many zero bytes as its input."""
        answer = self.machine.ask(
            "run", box=self.name, argv=argv, timeout_s=timeout_s, stdin_bytes=stdin_bytes
        )
        return Result(**answer)

    def sh(self, script: str, timeout_s: float = TIMEOUT_S) -> str:
        """Return what a shell script prints, errors included."""
        result = self.run("/bin/sh", "-c", f"exec 2>&1\n{script}", timeout_s=timeout_s)
        return result.stdout.strip()

    def python(self, code: str) -> str:
        """Return what a Python program prints, errors included."""
        result = self.run("python3", "-c", PREAMBLE + code)
        return (result.stdout + result.stderr).strip()

    def show(self, script: str) -> str:
        """Return what a shell script prints on a terminal."""
        argv = ("/bin/sh", "-c", script)
        answer = self.machine.ask("show", box=self.name, argv=argv, timeout_s=TIMEOUT_S)
        return str(answer["text"]).replace("\r\n", "\n").strip()

    def read(self, path: str) -> str:
        """Read a file through the sandbox's own call. Raises `Refused`."""
        return str(self.machine.ask("read", box=self.name, path=path)["text"])

    def start(self, *argv: str) -> None:
        """Start a command that nobody waits for."""
        self.machine.ask("start", box=self.name, argv=argv)

    def fork(self, count: int = 1) -> "list[Box]":
        """Fork it."""
        answer = self.machine.ask("fork", box=self.name, count=count)
        return [Box(self.machine, name) for name in answer["boxes"]]

    def pause(self) -> None:
        """Pause it."""
        self.machine.ask("pause", box=self.name)

    def resume(self) -> None:
        """Let it go on."""
        self.machine.ask("resume", box=self.name)

    def metrics(self) -> dict[str, int]:
        """Measure it."""
        return self.machine.ask("metrics", box=self.name)

    def namespace(self) -> str:
        """Return the name of the sandbox's process namespace, as the host sees it too."""
        return self.sh("readlink /proc/self/ns/pid")

    def destroy(self) -> None:
        """Destroy it."""
        self.machine.ask("destroy", box=self.name)


def processes_in(namespace: str) -> list[int]:
    """Return the processes of this machine that are in a process namespace."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                link = (entry / "ns" / "pid").readlink()
            except OSError:
                continue
            if str(link) == namespace:
                found.append(int(entry.name))
    return found


def first_in(namespace: str) -> int:
    """Return the process that is the first one of a namespace; numbers may have begun anew."""
    return next(pid for pid in processes_in(namespace) if _number_inside(pid) == "1")


def _number_inside(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(line.split()[-1] for line in lines if line.startswith("NSpid:"))
