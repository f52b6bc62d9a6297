"""What the local sandbox says and promises on machines that isolate less than this one.

Each machine is real: made of this one by a process that hides, refuses or fills what such a machine
lacks, and then serves, as root or as an ordinary user.
"""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.security.machine import IDENTITIES, Identity, Machine


@contextmanager
def machine_under(identity: Identity, *conditions: str) -> Generator[Machine]:
    """Lend a machine under some conditions."""
    data_dir = Path(tempfile.mkdtemp(prefix="patchkiln-test-"))
    machine = Machine(identity, data_dir, *conditions)
    try:
        yield machine
    finally:
        machine.close()
        shutil.rmtree(data_dir)
        shutil.rmtree(f"{data_dir}-root", ignore_errors=True)


@pytest.fixture(params=IDENTITIES)
def identity(request: pytest.FixtureRequest) -> Identity:
    """Return who serves."""
    return "root" if request.param == "root" else "user"


@pytest.mark.parametrize(
    ("condition", "cause", "fix"),
    [
        ("docker", "seccomp filter", "--security-opt seccomp=unconfined"),
        ("chroot", "chroot", "container"),
        ("full disk", "disk of the data directory is full", "PATCHKILN_DATA_DIR"),
        ("closed disk", "cannot write its data directory", "PATCHKILN_DATA_DIR"),
    ],
)
def test_a_machine_that_cannot_isolate_names_cause_and_fix(
    identity: Identity, condition: str, cause: str, fix: str
) -> None:
    """Level none, the cause in the reason, what to do in the remedy, and no path of the host."""
    with machine_under(identity, condition) as machine:
        found = machine.ask("isolation")
        assert found["level"] == "none", found
        assert cause in found["reason"]
        assert fix in found["remedy"]
        assert str(machine.data_dir) not in found["reason"] + found["remedy"]


def test_a_machine_without_user_namespaces_names_the_setting() -> None:
    """The reason names the sysctl, the remedy is what to type."""
    with machine_under("user", "no namespaces") as machine:
        found = machine.ask("isolation")
        assert found["level"] == "none", found
        assert "user.max_user_namespaces is 0" in found["reason"]
        assert "sudo sysctl -w user.max_user_namespaces=" in found["remedy"]


@pytest.mark.skipif("root" not in IDENTITIES, reason="what root lacks in a container")
@pytest.mark.parametrize(
    ("condition", "cause"),
    [("contained root", "CAP_SYS_ADMIN"), ("no namespaces", "lacks the ids")],
)
def test_root_of_a_container_is_told_to_be_a_user(condition: str, cause: str) -> None:
    """Root without the right to mount, or of a namespace with one id, cannot make boxes."""
    with machine_under("root", condition) as machine:
        found = machine.ask("isolation")
        assert found["level"] == "none", found
        assert cause in found["reason"]
        assert "--user 1000:1000" in found["remedy"]


@pytest.mark.parametrize("condition", ["advised", "podman", "noexec"])
def test_what_is_advised_suffices(identity: Identity, condition: str) -> None:
    """Docker's filter with the calls that the remedy names, Podman's as it is, a noexec disk."""
    with machine_under(identity, condition) as machine:
        assert machine.ask("isolation")["level"] in {"L3", "L2"}
        box = machine.box()
        assert box.sh("printf '#!/bin/sh\\necho ran' >x; chmod +x x; ./x") == "ran"
