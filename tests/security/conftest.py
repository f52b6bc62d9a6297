"""The machines that the claims about the local sandbox are tested on, by whoever started them."""

import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.security.machine import IDENTITIES, Box, Machine


@pytest.fixture(scope="session", params=IDENTITIES)
def machine(request: pytest.FixtureRequest) -> Generator[Machine]:
    """Lend a machine started by root, then one started by an ordinary user."""
    data_dir = Path(tempfile.mkdtemp(prefix="patchkiln-test-"))
    machine = Machine(request.param, data_dir)
    yield machine
    machine.close()
    shutil.rmtree(data_dir)


@pytest.fixture
def box(machine: Machine) -> Generator[Box]:
    """Lend a fresh sandbox."""
    box = machine.box()
    yield box
    box.destroy()
