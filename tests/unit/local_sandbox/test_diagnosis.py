"""Why a machine cannot isolate: each cause gets its own sentence and its own fix."""

import errno

import pytest

from patchkiln.sandboxes.local import diagnosis, syscalls
from patchkiln.sandboxes.local.diagnosis import explain, explain_machine


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Replace the machine's settings by the test's, and its container by none."""
    settings = {setting.name: "" for setting in diagnosis.SETTINGS}
    monkeypatch.setattr(diagnosis, "_read_setting", settings.__getitem__)
    monkeypatch.setattr(diagnosis, "_filtered", lambda: False)
    return settings


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_a_setting_that_forbids_is_named_with_the_command_that_allows(
    settings: dict[str, str], setting: str, value: str
) -> None:
    """The reason names the setting, the remedy is what to type."""
    settings[setting] = value
    reason, remedy = explain("user namespace", errno.EPERM, as_root=False)
    name = setting.replace("/", ".")
    assert name in reason
    assert f"sudo sysctl -w {name}=" in remedy


def test_settings_for_ordinary_users_are_no_cause_for_root(settings: dict[str, str]) -> None:
    """Root is told its own cause: a container without the capability to mount."""
    settings["kernel/apparmor_restrict_unprivileged_userns"] = "1"
    reason, remedy = explain("mount namespace", errno.EPERM, as_root=True)
    assert "CAP_SYS_ADMIN" in reason
    assert "--user" in remedy


def test_a_containers_filter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a seccomp filter the fix is the container's option."""
    monkeypatch.setattr(diagnosis, "_filtered", lambda: True)
    reason, remedy = explain("user namespace", errno.EPERM, as_root=False)
    assert "seccomp" in reason
    assert "--security-opt seccomp=unconfined" in remedy


@pytest.mark.parametrize(
    ("step", "number", "fix"),
    [
        ("proc", errno.EPERM, "systempaths=unconfined"),
        ("workspace", errno.EINVAL, "Linux 6.6"),
        ("mounts", errno.ENOSYS, "Linux 5.12"),
        ("seccomp", errno.EINVAL, "report the step"),
    ],
)
def test_each_step_has_its_fix(step: str, number: int, fix: str) -> None:
    """Masked /proc, kernels too old for overlays or mounts, and what nobody foresaw."""
    assert fix in explain(step, number, as_root=False).remedy


def test_an_unknown_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """System calls have numbers, which differ between machines."""
    monkeypatch.setattr(syscalls, "MACHINE", "riscv64")
    reason, remedy = explain("start", 0, as_root=False)
    assert "riscv64" in reason
    assert "x86_64" in remedy


def test_a_data_directory_that_cannot_be_written_is_named() -> None:
    """The remedy names the setting, the reason no path."""
    error = PermissionError(errno.EACCES, "Permission denied", "/secret/place")
    reason, remedy = explain_machine(error)
    assert "/secret" not in reason
    assert "PATCHKILN_DATA_DIR" in remedy


def test_a_link_in_the_place_of_a_directory_is_told() -> None:
    """The remedy says how to get the directory back."""
    reason, remedy = explain("mounts", errno.ELOOP, as_root=True)
    assert "symbolic link" in reason
    assert "repositories/" in remedy
