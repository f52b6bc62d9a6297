"""Ctrl-C while a command is still being imported."""

import signal
import subprocess
import sys
import threading
from argparse import Namespace

import pytest

from patchkiln.cli import main

# As a C extension does that clears the errors of what it tries.
INTERRUPTED_IMPORT = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Interrupting())
from patchkiln.cli import main
sys.exit(main(["run", "/nowhere", "Fix it"]))
"""


@pytest.mark.parametrize(
    "module",
    [
        "patchkiln.cli.parser",
        "patchkiln.cli.run",
        "patchkiln.cli.run_here",
        "patchkiln.bootstrap.services",
    ],
)
def test_an_interrupt_during_an_import_ends_the_process(module: str) -> None:
    """It dies of the signal, which a shell shows as 130, without a word and before any work."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, module],
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_work_is_interrupted_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a command works, Ctrl-C raises, and the exit code is that of a cancelled run."""

    def interrupted(_arguments: Namespace) -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    monkeypatch.setattr("patchkiln.cli.run.execute", interrupted)
    assert main(["run", "--server", "http://127.0.0.1:1", "/nowhere", "Fix it"]) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell starts a background job so, and Ctrl-C in its terminal is not for it."""
    seen: list[object] = []

    def look(_arguments: Namespace) -> None:
        seen.append(signal.getsignal(signal.SIGINT))

    monkeypatch.setattr("patchkiln.cli.run.prepare", look)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["run", "/nowhere", "Fix it"]) == 2
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIG_IGN]


def test_it_works_outside_of_the_main_thread() -> None:
    """Signals belong to the main thread; elsewhere they are let be."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["run", "/nowhere", "Fix it"])))
    thread.start()
    thread.join(60)
    assert codes == [2]
