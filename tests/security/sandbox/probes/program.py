"""What a portable probe is: a program, and how its findings are read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from tests.security.sandbox.probes.numbered import TITLES

# Stands before every program. `reached` names what was got that a sandbox need not give; `look`
# brings out what a file says, so that the host can search it for its secret. The last line that is
# printed is the finding.
PRELUDE: Final = """
import ctypes, errno, glob, hashlib, json, mmap, os, platform, resource, signal, socket, stat
import struct, subprocess, sys, threading, time
BAIT = json.loads(sys.argv[1])
TOKEN = BAIT['token']
ARM = platform.machine() == 'aarch64'
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
finding = {'reached': [], 'seen': '', 'digests': []}
def reached(name):
    finding['reached'].append(name)
def tell():
    finding['seen'] = finding['seen'][-200000:]
    print(flush=True)
    print(json.dumps(finding), flush=True)
    os._exit(0)
def number(intel, arm):
    return arm if ARM else intel
def call(number, *args):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return libc.syscall(ctypes.c_long(number), *words)
def works(action):
    try:
        result = action()
    except (OSError, ValueError):
        return False
    return result is None or not isinstance(result, int) or result >= 0
def attempt(name, action):
    if works(action):
        reached(name)
def see(data):
    finding['seen'] += data.decode('latin-1') if isinstance(data, bytes) else data
def look(path, size=65536):
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b''
        with open(path, 'rb') as file:
            data = file.read(size)
    except (OSError, ValueError):
        return b''
    finding['digests'].append(hashlib.sha256(data).hexdigest())
    see(data)
    return data
def mark(place):
    try:
        with open(place + '/' + TOKEN, 'x') as file:
            file.write('x')
    except OSError:
        return False
    return True
def in_child(action, seconds=20):
    # Returns the child's exit code, or what ended it, negated.
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if works(action) else 1
        finally:
            os._exit(code)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    return -9
def others():
    return [name for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a probe came to; all empty where the sandbox held.

    ``escaped``: what the host lost, as the host saw it. ``reached``: what the program could use
    that leads to more, or take without end, though nothing of the host was touched.
    """

    escaped: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Tell whether there is nothing to report."""
        return not self.escaped and not self.reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A program of the list.

    ``small``: it uses up what it can, and so wants a sandbox with small limits; ``after_end``: what
    counts is what the host sees when the sandbox is gone. ``alone`` is false for what would hurt
    the machine without a sandbox; ``may_die`` is true where a program that is ended held as well.
    """

    number: int
    code: str
    small: bool = False
    after_end: bool = False
    alone: bool = True
    may_die: bool = False

    @property
    def title(self) -> str:
        """Return what it is about."""
        return TITLES[self.number]

    def argv(self, bait: Mapping[str, Any]) -> list[str]:
        """Return the command that runs it."""
        return ["python3", "-c", PRELUDE + self.code + "\ntell()\n", json.dumps(bait)]


class ProbeBroken(Exception):
    """A probe ended without a finding, which proves nothing."""


def read_finding(stdout: str, stderr: str) -> dict[str, Any]:
    """Return what a program found, from what it printed. Raises `ProbeBroken`."""
    try:
        found: Any = json.loads(stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise ProbeBroken(f"{stdout[-500:]}\n{stderr[-1500:]}") from None
    if not isinstance(found, dict):
        raise ProbeBroken(stdout[-500:])
    return cast("dict[str, Any]", found)
