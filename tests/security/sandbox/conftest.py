"""The sandboxes that probes share, and what lies on the host for them."""

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial

import pytest

from tests.security.machine import Box, Machine
from tests.security.sandbox.bait import Bait
from tests.security.sandbox.probes.program import Finding, Probe

MIB = 1 << 20
SMALL = {
    "memory_bytes": 128 * MIB,
    "processes": 64,
    "disk_bytes": 16 * MIB,
    "open_files": 256,
}

Tried = Callable[[Probe], Finding]


@pytest.fixture(scope="session")
def bait(machine: Machine) -> Generator[Bait]:
    """Lay bait for the user that starts the sandboxes."""
    with Bait(machine.host_uid) as bait:
        yield bait


@pytest.fixture(scope="session")
def boxes(machine: Machine) -> Generator[dict[bool, Box]]:
    """Lend one box for all probes, and one with small limits for those that use things up."""
    boxes = {False: machine.box(), True: machine.box(limits=SMALL)}
    yield boxes
    for box in boxes.values():
        box.destroy()


@pytest.fixture
def tried(machine: Machine, bait: Bait, boxes: dict[bool, Box]) -> Tried:
    """Return what runs a probe in a box and says what came of it."""
    return partial(try_probe, machine, bait, boxes)


def try_probe(machine: Machine, bait: Bait, boxes: dict[bool, Box], probe: Probe) -> Finding:
    """Run a probe in one of a machine's boxes, or in its own, and return what came of it."""
    box = machine.box() if probe.after_end else boxes[probe.small]
    result = box.run(*probe.argv(bait.told()))
    finding = bait.judge(probe, result.stdout, result.stderr)
    if not probe.after_end:
        return finding
    box.destroy()
    survived = tuple("a process outlived the end" for _ in bait.survivors())
    return replace(finding, escaped=finding.escaped + survived)
