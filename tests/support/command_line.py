"""The command line as a process, in an environment of the test's own."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT_S = 100.0


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """Return an environment without any setting but these; ``model`` is ``PATCHKILN_MODEL``."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    named = {f"PATCHKILN_{name.upper()}": value for name, value in settings.items()}
    return {**kept, "LC_ALL": "C.UTF-8", "PATCHKILN_DATA_DIR": str(data_dir), **named}


def command(*arguments: str | Path) -> list[str]:
    """Return the argument vector for a command of ours."""
    return [sys.executable, "-m", "patchkiln", *map(str, arguments)]


def patchkiln(
    *arguments: str | Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: bytes | int = subprocess.DEVNULL,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end. ``stdin`` is what it reads, or a descriptor to read from."""
    given = stdin if isinstance(stdin, bytes) else None
    argv = command(*arguments)
    with subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=stdin if isinstance(stdin, int) else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(given, timeout=TIMEOUT_S)
        finally:
            process.kill()
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def started(argv: Sequence[str | Path], *, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that a signal reaches it alone."""
    return subprocess.Popen(
        list(map(str, argv)),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes], *signals: signal.Signals) -> tuple[bytes, bytes]:
    """Send signals and return what the process printed until its end."""
    for number in signals:
        process.send_signal(number)
    try:
        return process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
