"""Why a machine cannot isolate: each cause gets its own sentence and its own fix."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from patchkiln.sandboxes.local.selftest.diagnosis import (
    Diagnosis,
    explain,
    explain_machine,
    explain_overlay,
    is_shortage,
)
from patchkiln.sandboxes.local.selftest.facts import (
    APPARMOR_RESTRICTION,
    MAX_USER_NAMESPACES,
    UNPRIVILEGED_CLONE,
    MachineFacts,
    read_facts,
)

# As recorded on machines of each kind.
DEBIAN_13 = MachineFacts(
    release="6.12.43+deb13-amd64",
    architecture="x86_64",
    settings={MAX_USER_NAMESPACES: "63120"},
    confinement="unconfined",
)
UBUNTU_2404 = replace(
    DEBIAN_13,
    release="6.8.0-45-generic",
    settings={MAX_USER_NAMESPACES: "63120", UNPRIVILEGED_CLONE: "1", APPARMOR_RESTRICTION: "1"},
)
OLD_DEBIAN = replace(
    DEBIAN_13,
    release="4.19.0-27-amd64",
    settings={MAX_USER_NAMESPACES: "63120", UNPRIVILEGED_CLONE: "0"},
)
IN_DOCKER = replace(
    DEBIAN_13, filtered=True, confinement="docker-default (enforce)", container="docker"
)
IN_PODMAN = replace(DEBIAN_13, filtered=True, container="podman")


def told(step: str, number: int, machine: MachineFacts) -> Diagnosis:
    """Return a diagnosis, which never says that it does not know."""
    diagnosis = explain(step, number, machine)
    assert "report the step" not in diagnosis.remedy
    return diagnosis


@pytest.mark.parametrize(
    ("machine", "cause", "fix"),
    [
        (
            replace(DEBIAN_13, settings={MAX_USER_NAMESPACES: "0"}),
            "user.max_user_namespaces is 0",
            "sudo sysctl -w user.max_user_namespaces=15000",
        ),
        (
            OLD_DEBIAN,
            "kernel.unprivileged_userns_clone is 0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            UBUNTU_2404,
            "kernel.apparmor_restrict_unprivileged_userns is 1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (replace(DEBIAN_13, user_namespaces=False), "no user namespaces", "CONFIG_USER_NS"),
        (replace(DEBIAN_13, chrooted=True), "chroot", "container"),
        (replace(DEBIAN_13, proc_mounted=False), "no /proc", "mount -t proc"),
        (IN_DOCKER, "seccomp filter", "--security-opt seccomp=unconfined"),
        (DEBIAN_13, "security module", "dmesg"),
    ],
)
def test_each_cause_of_refused_namespaces_has_its_fix(
    machine: MachineFacts, cause: str, fix: str
) -> None:
    """The same step and error, told apart by what the machine is."""
    reason, remedy = told("user namespace", errno.EPERM, machine)
    assert cause in reason
    assert fix in remedy


def test_apparmor_has_four_ways_out() -> None:
    """The setting, a profile for this Python, root, and bubblewrap with its own profile.

    Ubuntu 24.04 makes the namespace and then refuses to mount in it.
    """
    for step, number in (("user namespace", errno.EPERM), ("staging", errno.EACCES)):
        remedy = told(step, number, UBUNTU_2404).remedy
        assert "userns," in remedy
        assert "sudo apparmor_parser -r /etc/apparmor.d/patchkiln" in remedy
        assert "as root" in remedy
        assert "bubblewrap" in remedy


def test_settings_for_ordinary_users_are_no_cause_for_root() -> None:
    """Root is told its own cause: a container without the capability to mount."""
    for machine in (UBUNTU_2404, OLD_DEBIAN):
        weak = replace(machine, as_root=True, sys_admin=False)
        reason, remedy = told("mount namespace", errno.EPERM, weak)
        assert "CAP_SYS_ADMIN" in reason
        assert "--user" in remedy


@pytest.mark.parametrize(
    ("machine", "needed", "spared"),
    [
        (IN_DOCKER, "systempaths=unconfined", "unmask=ALL"),
        (IN_PODMAN, "unmask=ALL", "seccomp=unconfined"),
    ],
)
def test_each_engine_is_told_its_own_options(
    machine: MachineFacts, needed: str, spared: str
) -> None:
    """Podman's default filter lets namespaces be; Docker's needs another."""
    remedy = told("user namespace", errno.EPERM, machine).remedy
    assert needed in remedy
    assert spared not in remedy


def test_an_unknown_engine_is_told_both() -> None:
    """Where nothing tells which one made the container."""
    remedy = told("staging", errno.EPERM, replace(IN_PODMAN, container="")).remedy
    assert "systempaths=unconfined" in remedy
    assert "unmask=ALL" in remedy


def test_a_profile_that_forbids_mounts_is_named() -> None:
    """Docker's AppArmor profile, where its seccomp filter is off."""
    reason, remedy = told("staging", errno.EACCES, replace(IN_DOCKER, filtered=False))
    assert "docker-default" in reason
    assert "apparmor=unconfined" in remedy


@pytest.mark.parametrize(
    ("step", "number", "release", "cause", "fix"),
    [
        ("proc", errno.EPERM, "6.12.0", "hides parts of /proc", "systempaths=unconfined"),
        ("workspace", errno.EPERM, "5.10.0-32-amd64", "overlay", "Linux 6.6"),
        ("workspace", errno.EINVAL, "6.1.0-25-amd64", "over a tmpfs", "bubblewrap"),
        ("workspace", errno.ENODEV, "6.12.0", "no overlay", "modprobe overlay"),
        ("workspace", errno.ENOSPC, "6.12.0", "short of", "disk space"),
        ("template", errno.ENOSYS, "5.10.0", "mount_setattr", "Linux 5.12"),
        ("mounts", errno.ENOSYS, "5.4.0-100-generic", "mount_setattr", "Linux 5.12"),
        ("mounts", errno.ELOOP, "6.12.0", "symbolic link", "repositories/"),
        ("clone", errno.ENOSPC, "6.12.0", "limit is used up", "max_user_namespaces"),
        ("clone", errno.EINVAL, "6.12.0", "no user namespaces", "CONFIG_PID_NS"),
        ("seccomp", errno.EINVAL, "6.12.0", "seccomp", "CONFIG_SECCOMP_FILTER"),
        ("bubblewrap", errno.ENOENT, "6.12.0", "no bubblewrap", "apt-get install bubblewrap"),
        ("bubblewrap", 0, "6.12.0", "makes no sandbox", "bwrap --unshare-all"),
        ("layer", errno.ENOMEM, "6.12.0", "short of", "free memory"),
    ],
)
def test_each_step_has_its_fix(step: str, number: int, release: str, cause: str, fix: str) -> None:
    """Masked /proc, old kernels, kernels without a part, and shortages."""
    reason, remedy = told(step, number, replace(DEBIAN_13, release=release))
    assert cause in reason
    assert fix in remedy


def test_what_nobody_foresaw_is_told_as_it_is() -> None:
    """The step, the error and the kernel, to report."""
    reason, remedy = explain("landlock", errno.EIO, DEBIAN_13)
    assert "landlock" in reason
    assert DEBIAN_13.release in remedy


def test_an_unknown_machine_is_named() -> None:
    """System calls have numbers, which differ between machines."""
    reason, remedy = told("start", 0, replace(DEBIAN_13, architecture="riscv64"))
    assert "riscv64" in reason
    assert "x86_64" in remedy


def test_an_overlay_that_does_not_work_is_the_kernel_s_age() -> None:
    """Before Linux 6.6 it mounts over a tmpfs, and then cannot replace a directory."""
    old = explain_overlay(replace(DEBIAN_13, release="6.1.0-25-amd64"))
    assert old is not None
    assert "6.1.0-25-amd64" in old.reason
    assert "Linux 6.6" in old.remedy
    assert explain_overlay(DEBIAN_13) is None


@pytest.mark.parametrize(
    ("number", "cause", "fix"),
    [
        (errno.EACCES, "cannot write its data directory", "PATCHKILN_DATA_DIR"),
        (errno.EROFS, "cannot write its data directory", "PATCHKILN_DATA_DIR"),
        (errno.ENOSPC, "full", "another disk"),
        (errno.EDQUOT, "full", "quota"),
        (errno.EINVAL, "lacks the ids", "--user"),
        (errno.EMFILE, "descriptors", "LimitNOFILE"),
        (errno.EIO, "Input/output error", "data directory"),
    ],
)
def test_a_data_directory_that_does_not_serve_is_explained(
    number: int, cause: str, fix: str
) -> None:
    """The remedy names the setting, the reason no path."""
    reason, remedy = explain_machine(OSError(number, "", "/secret/place"))
    assert "/secret" not in reason
    assert cause in reason
    assert fix in remedy


def test_facts_are_read_of_the_machine(tmp_path: Path) -> None:
    """Of a container's /proc: the filter, the profile, the chroot, the settings, the engine."""
    own = tmp_path / "proc" / "self"
    (own / "attr").mkdir(parents=True)
    (own / "ns").mkdir()
    (own / "ns" / "user").symlink_to("user:[4026531837]")
    (own / "status").write_text("Name:\tpython3\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n")
    (own / "attr" / "current").write_text("docker-default (enforce)\n")
    (own / "mountinfo").write_text("23 30 0:21 / /proc rw - proc proc rw\n")
    (tmp_path / "proc" / "sys" / "user").mkdir(parents=True)
    (tmp_path / "proc" / "sys" / "user" / "max_user_namespaces").write_text("0\n")
    (tmp_path / ".dockerenv").touch()
    found = read_facts(tmp_path)
    assert found.filtered
    assert not found.sys_admin
    assert found.user_namespaces
    assert found.proc_mounted
    assert found.chrooted
    assert found.settings == {MAX_USER_NAMESPACES: "0"}
    assert found.confinement == "docker-default (enforce)"
    assert found.container == "docker"


def test_facts_of_this_machine_fit_it() -> None:
    """A test runs on a machine with /proc, and in no chroot."""
    found = read_facts()
    assert found.proc_mounted
    assert found.version > (3, 0)
    assert not found.chrooted


def test_nothing_that_cannot_be_read_stops_the_reading(tmp_path: Path) -> None:
    """In a bare chroot there is no /proc, and that is what the facts say."""
    found = read_facts(tmp_path)
    assert not found.proc_mounted
    assert not found.chrooted


def test_a_shortage_is_no_refusal() -> None:
    """Memory or disk that is used up is so for every maker of boxes; a limit of namespaces not."""
    assert is_shortage("clone", errno.EAGAIN)
    assert is_shortage("layer", errno.ENOSPC)
    assert not is_shortage("clone", errno.ENOSPC)
    assert not is_shortage("clone", errno.EPERM)
