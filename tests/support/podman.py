"""A Podman of the tests' own: its service, settings and storage, and nothing of the machine's."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_START_S = 30.0
_PAUSE_S = 0.02
# Podman's own are higher than what a machine without CAP_SYS_RESOURCE may set.
_LIMIT = 1024


def installed() -> bool:
    """Tell whether there is a Podman to start, and the right to."""
    return shutil.which("podman") is not None and os.getuid() == 0


@contextmanager
def service(directory: Path, *, runtime: str | None = None) -> Generator[Path]:
    """Lend the socket of a running service; it and its containers' files end with the block."""
    place = directory / "podman.sock"
    groups_before = _groups()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "XDG_RUNTIME_DIR": str(directory),
        "CONTAINERS_CONF": str(_write_settings(directory, runtime)),
        "CONTAINERS_STORAGE_CONF": str(_write_storage(directory)),
    }
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ("podman", "system", "service", "--time", "0", f"unix://{place}"),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _await_socket(place, process, directory / "log")
        yield place
    finally:
        # What a failed test has left, a frozen container too.
        subprocess.run(("podman", "rm", "--all", "--force"), env=environment, check=False)
        process.send_signal(signal.SIGTERM)
        process.wait()
        _remove(_groups() - groups_before)


def _groups() -> set[Path]:
    """Return the control groups in which Podman makes those of containers."""
    root = Path("/sys/fs/cgroup")
    return {*root.glob("libpod_parent"), *root.glob("*/libpod_parent")}


def _remove(groups: set[Path]) -> None:
    """Remove control groups, which Podman leaves; another Podman's, in use, stay."""
    for group in groups:
        within = [path for path in group.rglob("*") if path.is_dir()]
        for path in (*sorted(within, reverse=True), group):
            with suppress(OSError):
                path.rmdir()


def _write_settings(directory: Path, runtime: str | None) -> Path:
    """Write what makes it work in a container or on old control groups, too."""
    chosen = runtime or next((name for name in ("runc", "crun") if shutil.which(name)), "runc")
    words = ", ".join(f'"{name}={_LIMIT}:{_LIMIT}"' for name in ("nofile", "nproc"))
    place = directory / "containers.conf"
    place.write_text(
        f'[engine]\nruntime = "{chosen}"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        f"[containers]\ndefault_ulimits = [{words}]\n",
        encoding="utf-8",
    )
    return place


def _write_storage(directory: Path) -> Path:
    place = directory / "storage.conf"
    place.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/graph"\n'
        f'runroot = "{directory}/run"\n',
        encoding="utf-8",
    )
    return place


def _await_socket(place: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(place)) == 0:
                return
        time.sleep(_PAUSE_S)
    raise RuntimeError(log.read_text(errors="replace"))
