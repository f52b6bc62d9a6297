"""Checks in a real sandbox: how they are run, stopped, read and compared."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from patchkiln.domain.check import UNTOLD, Check, CheckResult, CheckStatus, Verdict
from patchkiln.domain.verdict import compare
from patchkiln.pipeline.checks import TAIL_BYTES, run_check
from patchkiln.pipeline.survey import analyse
from patchkiln.ports.sandbox import Sandbox, SandboxProvider, SandboxSpec, new_sandbox_id
from tests.support.boxes import lent_box, lent_provider

MAX_OUTPUT_BYTES = 8 << 20
GREEN = "def test_a():\n    assert True\n\n\ndef test_b():\n    assert True\n"
RED = "def test_a():\n    assert True\n\n\ndef test_b():\n    assert 1 == 2\n"

pytestmark = pytest.mark.asyncio(loop_scope="module")
# Without a program that a machine may lack, whose absence would look like an end.
RUNNING = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o '[s]leep {}'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[SandboxProvider]:
    """Lend a provider to the whole module."""
    async with lent_provider(tmp_path_factory.mktemp("data")) as sandboxes:
        yield sandboxes


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(provider: SandboxProvider) -> AsyncGenerator[Sandbox]:
    """Lend an empty sandbox."""
    async with lent_box(provider) as box:
        yield box


async def check_of(sandbox: Sandbox, files: dict[str, str]) -> Check:
    """Write files into the workspace and return the one check that they give."""
    for path, text in files.items():
        await sandbox.write(path, text.encode())
    (check,) = (await analyse(sandbox)).checks
    return check


async def run(sandbox: Sandbox, check: Check | str, *, timeout_s: float = 60) -> CheckResult:
    """Run a detected check, or a command."""
    if isinstance(check, str):
        check = Check(command=check, source="request")
    return await run_check(sandbox, check, timeout_s=timeout_s, max_output_bytes=MAX_OUTPUT_BYTES)


async def test_a_pytest_suite_passes_with_the_lent_pytest(sandbox: Sandbox) -> None:
    """A suite of bare test functions runs although nothing was installed."""
    result = await run(sandbox, await check_of(sandbox, {"test_it.py": GREEN}))
    assert result.status is CheckStatus.PASSED
    assert (result.exit_code, result.tests_run) == (0, 2)
    assert "2 passed" in result.tail


async def test_a_failing_pytest_suite_names_its_failures(sandbox: Sandbox) -> None:
    """Failures are known by name, the list is whole, and the tail shows why."""
    result = await run(sandbox, await check_of(sandbox, {"test_it.py": RED}))
    assert result.status is CheckStatus.FAILED
    assert result.failures == {"test_it.py::test_b"}
    assert result.complete
    assert "assert 1 == 2" in result.tail


async def test_a_module_that_can_not_be_imported_does_not_hide_the_others(
    sandbox: Sandbox,
) -> None:
    """A missing dependency of one test module leaves the rest of the suite to judge."""
    files = {"test_it.py": GREEN, "test_other.py": "import no_such_module\n"}
    result = await run(sandbox, await check_of(sandbox, files))
    assert result.failures == {"test_other.py (error)"}
    assert (result.complete, result.tests_run) == (True, 3)


async def test_a_suite_without_its_dependency_is_unrunnable(sandbox: Sandbox) -> None:
    """Where no module can be imported, the check says which one is missing."""
    files = {"test_it.py": "import no_such_module\n\n\ndef test_a(): pass\n"}
    result = await run(sandbox, await check_of(sandbox, files))
    assert result.status is CheckStatus.UNRUNNABLE
    assert "no_such_module" in result.reason


async def test_plugin_options_do_not_stop_a_bare_pytest(sandbox: Sandbox) -> None:
    """Coverage, parallel runs and strict warnings in the settings need no plugin to be judged."""
    settings = (
        "[pytest]\naddopts = --cov=pkg -n 4 -x -q\nfilterwarnings = error\n"
        "asyncio_mode = auto\nrequired_plugins = pytest-cov\n"
    )
    files = {"pytest.ini": settings, "test_it.py": RED + "\n\ndef test_c():\n    assert 0\n"}
    result = await run(sandbox, await check_of(sandbox, files))
    assert result.failures == {"test_it.py::test_b", "test_it.py::test_c"}
    assert result.complete


async def test_a_src_layout_is_imported(sandbox: Sandbox) -> None:
    """A package below src is found, and the lent pytest beside it."""
    files = {
        "src/pkg/__init__.py": "ANSWER = 42\n",
        "tests/test_it.py": "import pkg\n\n\ndef test_a():\n    assert pkg.ANSWER == 42\n",
    }
    check = await check_of(sandbox, files)
    assert check.env["PYTHONPATH"] == "src"
    assert (await run(sandbox, check)).status is CheckStatus.PASSED


async def test_the_path_of_a_check_goes_before_the_sandboxs_own(
    provider: SandboxProvider,
) -> None:
    """A check's PYTHONPATH adds to what the sandbox gives its commands, and takes nothing away."""
    spec = SandboxSpec(id=new_sandbox_id(), env={"PYTHONPATH": "/lent"})
    env = {"PYTHONPATH": "src", "OTHER": "too"}
    check = Check(command='echo "$PYTHONPATH $OTHER"', source="request", env=env)
    sandbox = await provider.create(spec)
    try:
        result = await run(sandbox, check)
    finally:
        await sandbox.destroy()
    assert result.tail == "src:/lent too\n"


async def test_a_unittest_suite_runs_under_unittest(sandbox: Sandbox) -> None:
    """Tests that know unittest alone run without pytest and name their failures."""
    text = (
        "import unittest\n\n\nclass T(unittest.TestCase):\n    def test_a(self):\n        pass\n\n"
        "    def test_b(self):\n        self.fail()\n"
    )
    files = {"tests/__init__.py": "", "tests/test_it.py": text}
    check = await check_of(sandbox, files)
    assert check.command == "python3 -m unittest discover -s tests -t ."
    result = await run(sandbox, check)
    assert (result.status, result.tests_run) == (CheckStatus.FAILED, 2)
    assert result.complete
    assert [name.partition(" ")[0] for name in result.failures] == ["test_b"]


async def test_a_suite_that_never_ends_is_killed_at_its_limit(sandbox: Sandbox) -> None:
    """Neither the suite nor a child of it outlives the time limit, and the tail is kept."""
    result = await run(sandbox, "echo begun; sleep 1234 & sleep 6", timeout_s=1)
    assert result.status is CheckStatus.TIMED_OUT
    assert result.tail == "begun\n"
    assert "1 seconds" in result.reason
    left = await run(sandbox, RUNNING.format("1234"))
    assert left.tail == ""


async def test_what_a_check_leaves_running_is_killed(sandbox: Sandbox) -> None:
    """A server that a suite forgot does not wait for the next check, or eat its time."""
    result = await run(sandbox, "sleep 4321 & echo started")
    assert (result.status, result.tail) == (CheckStatus.PASSED, "started\n")
    left = await run(sandbox, RUNNING.format("4321"))
    assert left.tail == ""


async def test_output_without_end_is_stopped_and_bounded(sandbox: Sandbox) -> None:
    """A suite that prints for ever is stopped at the output limit; little of it is kept."""
    result = await run(sandbox, "yes 'all work and no play'")
    assert result.status is CheckStatus.TIMED_OUT
    assert str(MAX_OUTPUT_BYTES) in result.reason
    assert len(result.tail) <= TAIL_BYTES
    assert "all work and no play\n" in result.tail
    few = Check(command="yes | head -c 4000000", source="request")
    result = await run_check(sandbox, few, timeout_s=60, max_output_bytes=100_000)
    assert result.status is CheckStatus.TIMED_OUT


async def test_a_report_behind_much_output_is_read(sandbox: Sandbox) -> None:
    """Megabytes printed before the summary do not hide the failures, but leave doubt."""
    noise = "def test_a():\n    print('x' * 3_000_000)\n    assert 0\n"
    result = await run(sandbox, await check_of(sandbox, {"test_it.py": noise}))
    assert result.failures == {"test_it.py::test_a"}
    assert not result.complete


async def test_the_tail_is_fit_for_people(sandbox: Sandbox) -> None:
    """Both streams in the order they came, without colours, controls and broken bytes."""
    command = r"printf '\033[31mred\033[0m\000\377\n'; sleep 0.2; echo 'two' >&2"
    assert (await run(sandbox, command)).tail == "red\ufffd\ntwo\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-runner --all", "no-such-runner"),
        ("python3 -m no_such_runner", "runner is missing"),
        ("./test.sh", "test.sh"),
    ],
)
async def test_a_missing_runner_is_unrunnable(sandbox: Sandbox, command: str, words: str) -> None:
    """What can not be started judges nothing, and the reason names it."""
    await sandbox.write("test.sh", b"#!/bin/sh\n", mode=0o644)
    result = await run(sandbox, command)
    assert result.status is CheckStatus.UNRUNNABLE
    assert words in result.reason


async def test_what_can_not_be_told_is_not_run(sandbox: Sandbox) -> None:
    """Tox itself is never started; the result says why."""
    check = await check_of(sandbox, {"tox.ini": "[testenv]\ncommands = make all\n"})
    assert check.kind == UNTOLD
    result = await run(sandbox, check)
    assert (result.status, result.exit_code) == (CheckStatus.UNRUNNABLE, None)
    assert "tox.ini" in result.reason


async def test_a_killed_suite_has_failed(sandbox: Sandbox) -> None:
    """A suite that is killed from within counts as failed, without a whole list of names."""
    result = await run(sandbox, "kill -9 $$")
    assert (result.status, result.exit_code) == (CheckStatus.FAILED, 137)
    assert not result.complete


async def test_a_makefile_target_runs(sandbox: Sandbox) -> None:
    """With nothing else to go by, make test judges by its exit code."""
    check = await check_of(sandbox, {"Makefile": "test:\n\t@test ! -e broken\n"})
    assert (await run(sandbox, check)).status is CheckStatus.PASSED
    await sandbox.write("broken", b"")
    assert (await run(sandbox, check)).status is CheckStatus.FAILED


async def test_npm_test_runs_the_packages_script(sandbox: Sandbox) -> None:
    """A package whose tests need nothing but Node.js is tested, and names its failures."""
    text = (
        "const test = require('node:test');\nconst assert = require('assert');\n"
        "test('good', () => {});\ntest('bad', () => assert.equal(1, 2));\n"
    )
    files = {"package.json": '{"scripts": {"test": "node --test"}}', "a.test.js": text}
    check = await check_of(sandbox, files)
    assert check.command == "npm test"
    result = await run(sandbox, check)
    assert result.status is CheckStatus.FAILED
    assert [name.rpartition(" > ")[2] for name in result.failures] == ["bad"]
    assert (result.complete, result.tests_run) == (True, 2)


async def test_deleted_tests_are_told(sandbox: Sandbox) -> None:
    """A change that deletes a test stays green, but is not verified, and the reason tells why."""
    check = await check_of(sandbox, {"test_it.py": GREEN})
    base = await run(sandbox, check)
    await sandbox.write("test_it.py", GREEN.partition("\n\n\n")[0].encode())
    judgement = compare([base], [await run(sandbox, check)])
    assert judgement.verdict is Verdict.UNVERIFIED
    assert "1 instead of 2" in judgement.reason


async def test_a_deleted_suite_is_a_regression(sandbox: Sandbox) -> None:
    """Where the last test is gone, nothing is verified any more."""
    check = await check_of(sandbox, {"test_it.py": GREEN})
    base = await run(sandbox, check)
    await sandbox.remove("test_it.py")
    judgement = compare([base], [await run(sandbox, check)])
    assert judgement.verdict is Verdict.REGRESSED


async def test_a_change_within_the_same_second_is_seen(sandbox: Sandbox) -> None:
    """Bytecode of the base never judges the result, however quick and alike the change."""
    test = "from pkg import ANSWER\n\n\ndef test_a():\n    assert ANSWER == 1\n"
    check = await check_of(sandbox, {"pkg.py": "ANSWER = 1\n", "test_it.py": test})
    assert (await run(sandbox, check)).status is CheckStatus.PASSED
    change = Check(
        command="touch -r pkg.py stamp && echo 'ANSWER = 2' > pkg.py && touch -r stamp pkg.py",
        source="request",
    )
    assert (await run(sandbox, change)).exit_code == 0
    assert (await run(sandbox, check)).status is CheckStatus.FAILED
