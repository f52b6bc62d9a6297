"""The portable probes: each is tried in a box, and nothing comes of it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest

from tests.security.machine import IDENTITIES, Machine
from tests.security.sandbox.bait import Bait
from tests.security.sandbox.conftest import SMALL, Tried, try_probe
from tests.security.sandbox.probes import PORTABLE
from tests.security.sandbox.probes.program import Finding, Probe, read_finding


@pytest.fixture(scope="module")
def own_bait() -> Generator[Bait]:
    """Lay bait for this process's own user."""
    with Bait(os.getuid()) as bait:
        yield bait


def named(probe: Probe) -> str:
    """Return the name that a test run shows."""
    return f"{probe.number}"


@pytest.mark.parametrize("probe", PORTABLE, ids=named)
def test_nothing_comes_of_a_probe(tried: Tried, probe: Probe) -> None:
    """The host loses nothing, and the program gets nothing that leads further."""
    assert tried(probe) == Finding()


# What machines that isolate less cannot close; docs/security.md says so.
OPEN = {"bwrap": {48: "files", 60: "inotify"}, "masked": {26: "sees a process", 60: "inotify"}}


@pytest.fixture(scope="module", params=OPEN)
def lesser(request: pytest.FixtureRequest) -> Generator[tuple[str, Tried]]:
    """Lend what tries a probe where bubblewrap makes the boxes, or a container hides its /proc."""
    how = str(request.param)
    who = IDENTITIES[0] if how == "bwrap" else "user"  # whose box it would hurt more to be wrong
    data_dir = Path(tempfile.mkdtemp(prefix="patchkiln-test-"))
    machine = Machine(who, data_dir, how)
    with Bait(machine.host_uid) as bait:
        boxes = {False: machine.box(), True: machine.box(limits=SMALL)}
        yield how, partial(try_probe, machine, bait, boxes)
    machine.close()
    shutil.rmtree(data_dir)


@pytest.mark.parametrize("probe", PORTABLE, ids=named)
def test_a_lesser_level_lets_nothing_out(lesser: tuple[str, Tried], probe: Probe) -> None:
    """The host loses nothing, and what a program gets beyond is what is declared."""
    how, tried = lesser
    finding = tried(probe)
    assert finding.escaped == ()
    declared = OPEN[how].get(probe.number)
    assert len(finding.reached) == (declared is not None)
    assert declared is None or declared in finding.reached[0]


# What depends on no setting of the machine that the tests run on.
DAEMON = 58
SURELY_ALIVE = (1, 2, 3, 4, 8, 11, 13, 14, 18, 26, 29, 31, 34, 35, 36, 37, 39, 58, 64)


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user could not reach all of it")
@pytest.mark.parametrize("number", SURELY_ALIVE)
def test_the_probes_are_alive(own_bait: Bait, tmp_path: Path, number: int) -> None:
    """Without a sandbox the same program gets hold of something, so that finding nothing tells."""
    (probe,) = (probe for probe in PORTABLE if probe.number == number)
    with tempfile.TemporaryFile() as left_open:
        done = subprocess.run(
            probe.argv(own_bait.told()),
            cwd=tmp_path,
            env={**os.environ, **own_bait.environment, "HOME": str(own_bait.home)},
            pass_fds=[left_open.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    found = read_finding(done.stdout, done.stderr)
    until = time.monotonic() + 5
    while not (survivors := own_bait.survivors()) and number == DAEMON and time.monotonic() < until:
        time.sleep(0.01)
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)
    assert own_bait.effects(found) or found["reached"] or survivors
