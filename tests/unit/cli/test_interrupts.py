"""Ctrl-C, once and twice."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from patchkiln.cli.interrupts import interruptible


async def interrupted_times(count: int, number: signal.Signals = signal.SIGINT) -> list[str]:
    """Return what happened to a task that got a signal so many times."""
    happened: list[str] = []
    entered = asyncio.Event()

    async def work() -> None:
        with interruptible(lambda: happened.append("first")):
            entered.set()
            try:
                await asyncio.sleep(0.2)
                happened.append("done")
            except asyncio.CancelledError:
                happened.append("cancelled")

    task = asyncio.create_task(work())
    await entered.wait()
    for _ in range(count):
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)
    await task
    return happened


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_is_told_and_stops_nothing(number: signal.Signals) -> None:
    """The work goes on to its own end, which the caller has asked for."""
    assert await interrupted_times(1, number) == ["first", "done"]


async def test_the_second_stops_the_work_at_once() -> None:
    """Whoever insists is not made to wait."""
    assert await interrupted_times(2) == ["first", "cancelled"]


async def test_the_handlers_are_given_back() -> None:
    """After the work a signal means again what it meant before."""
    await interrupted_times(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_third_ends_the_process() -> None:
    """Even where the clean-up itself hangs, Ctrl-C gets out."""
    code = (
        "import asyncio, os, signal\n"
        "from patchkiln.cli.interrupts import interruptible\n"
        "async def work():\n"
        "    with interruptible(lambda: None):\n"
        "        for _ in range(2):\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            try:\n"
        "                await asyncio.sleep(0.05)\n"
        "            except asyncio.CancelledError:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "asyncio.run(work())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, stderr=subprocess.PIPE, timeout=60
    )
    assert done.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in done.stderr
