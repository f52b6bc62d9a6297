"""Every number of the list is tried by some test."""

import importlib
import os
import pkgutil
import subprocess
import sys

import tests.security.sandbox as here
from tests.security.machine import REPOSITORY
from tests.security.sandbox.probes import PORTABLE
from tests.security.sandbox.probes.numbered import GROUPS, TITLES


def names_by_number() -> dict[int, list[str]]:
    """Return the names of this directory's tests by the numbers that they are marked with."""
    found: dict[int, list[str]] = {}
    for module in pkgutil.iter_modules(here.__path__, f"{here.__name__}."):
        if module.name.rpartition(".")[2].startswith("test_") and module.name != __name__:
            for name, test in vars(importlib.import_module(module.name)).items():
                for mark in getattr(test, "pytestmark", ()) if name.startswith("test_") else ():
                    for number in mark.args if mark.name == "probe" else ():
                        found.setdefault(number, []).append(name)
    return found


def test_every_number_is_tried() -> None:
    """The portable probes and the marked tests together cover the whole list."""
    tried = {probe.number for probe in PORTABLE} | set(names_by_number())
    assert sorted(set(TITLES) - tried) == []
    assert tried <= set(TITLES)


def test_the_list_is_whole() -> None:
    """It counts from 1 to 100, each number in one group."""
    assert list(TITLES) == list(range(1, 101))
    assert [number for numbers in GROUPS.values() for number in numbers] == list(TITLES)


def test_the_report_can_be_started() -> None:
    """``scripts/escape-report --list`` shows every number with what holds it."""
    done = subprocess.run(
        [sys.executable, "scripts/escape_report.py", "--list"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    shown = [
        int(line.split()[0]) for line in done.stdout.splitlines() if line[:4].strip().isdigit()
    ]
    assert shown == list(TITLES)
