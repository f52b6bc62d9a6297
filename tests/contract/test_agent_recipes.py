"""The recipes agent on real sandboxes: what it plans, writes, tells, refuses and leaves alone."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import pytest
import pytest_asyncio

from patchkiln.agent.recipes import RecipesAgent, files, survey
from patchkiln.domain.event import EventType
from patchkiln.domain.plan import Plan
from patchkiln.domain.run import Outcome
from patchkiln.domain.usage import Limits, Usage
from patchkiln.errors import AgentError
from patchkiln.pipeline.survey import analyse
from patchkiln.ports.agent import Agent, AgentResult, AgentUpdate, Task
from patchkiln.ports.execution import Execution, capture
from patchkiln.ports.sandbox import Sandbox
from tests.support.boxes import lent_box, lent_provider

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "Add better error handling"
CLIENT = '''"""Talks to the rates service."""

import json

import requests


def rate(url: str) -> float:
    try:
        return json.loads(requests.get(url).text)["rate"]
    except KeyError:
        raise LookupError("no rate")


def warm(urls: list[str]) -> None:
    for url in urls:
        try:
            rate(url)
        except:
            pass
'''
CLIENT_AFTER = '''"""Talks to the rates service."""

import json
import logging

import requests

logger = logging.getLogger(__name__)


def rate(url: str) -> float:
    try:
        return json.loads(requests.get(url, timeout=30).text)["rate"]
    except KeyError as exc:
        raise LookupError("no rate") from exc


def warm(urls: list[str]) -> None:
    for url in urls:
        try:
            rate(url)
        except Exception:
            logger.warning("Ignored an exception in warm", exc_info=True)
'''
STORE = """class Gone(Exception):
    pass


def load(path):
    try:
        return open(path)
    except OSError:
        raise Gone
"""
STORE_AFTER = STORE.replace("OSError:", "OSError as exc:").replace(
    "raise Gone", "raise Gone from exc"
)
CLEAN = "def f():\n    try:\n        g()\n    except KeyError:\n        return None\n"
REPOSITORY = {
    "app/client.py": CLIENT,
    "app/store.py": STORE,
    "app/clean.py": CLEAN,
    "tests/test_client.py": CLIENT,
    "vendor/client.py": CLIENT,
    "README.md": "except:\n",
}


Lend: TypeAlias = Callable[[Mapping[str, str]], AbstractAsyncContextManager[Sandbox]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lend(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lend]:
    """Lend what lends sandboxes whose workspace holds some files."""
    async with lent_provider(tmp_path_factory.mktemp("data")) as provider:
        yield partial(lent_box, provider)


@pytest_asyncio.fixture(loop_scope="module")
async def box(lend: Lend) -> AsyncGenerator[Sandbox]:
    """Lend a sandbox with a small repository that has flaws in two files."""
    async with lend(REPOSITORY) as sandbox:
        yield sandbox


@dataclass
class Work:
    """What came out of one call of `implement`."""

    updates: list[AgentUpdate] = field(default_factory=list[AgentUpdate])
    result: AgentResult | None = None

    def told(self, event: str) -> list[AgentUpdate]:
        """Return the updates of one name."""
        return [update for update in self.updates if update.event == event]


async def task_for(sandbox: Sandbox, prompt: str = PROMPT) -> Task:
    """Return a task as the pipeline makes it."""
    project = await analyse(sandbox)
    return Task(prompt=prompt, repository="app", project=project, limits=Limits())


async def plan(sandbox: Sandbox, prompt: str = PROMPT, agent: Agent | None = None) -> Plan:
    """Let an agent plan."""
    return await (agent or RecipesAgent()).plan(await task_for(sandbox, prompt), sandbox)


async def implement(agent: Agent, made: Plan, sandbox: Sandbox, prompt: str = PROMPT) -> Work:
    """Let an agent work to its end; the result must come last."""
    work = Work()
    async for item in agent.implement(await task_for(sandbox, prompt), made, sandbox):
        assert work.result is None
        if isinstance(item, AgentResult):
            work.result = item
        else:
            work.updates.append(item)
    return work


async def run(sandbox: Sandbox, prompt: str = PROMPT) -> Work:
    """Plan and implement."""
    agent = RecipesAgent()
    return await implement(agent, await plan(sandbox, prompt, agent), sandbox, prompt)


async def text(sandbox: Sandbox, path: str) -> str:
    """Return a file of the workspace."""
    return (await sandbox.read(path, max_bytes=1 << 22)).decode()


async def shell(sandbox: Sandbox, command: str) -> None:
    """Run a command that must succeed."""
    output = await capture(await sandbox.exec(["/bin/sh", "-c", command]))
    assert output.status.exit_code == 0, output.stderr


async def test_a_plan_says_what_will_be_done_and_does_nothing(box: Sandbox) -> None:
    """Steps, counts and files come from a real look; the workspace stays as it was."""
    made = await plan(box)
    assert made.refusal is None
    assert "no language model" in made.intent
    assert made.files == ("app/client.py", "app/store.py")
    assert [step.split("(")[-1] for step in made.steps] == [
        "bare-except): 1 place in 1 file",
        "raise-from): 2 places in 2 files",
        "http-timeout): 1 place in 1 file",
        "swallowed-exception): 1 place in 1 file",
    ]
    assert len(made.risks) == 4
    assert await text(box, "app/client.py") == CLIENT


async def test_the_work_is_what_was_planned(box: Sandbox) -> None:
    """Each file is written once, told with its rules and lines, and the result says how."""
    work = await run(box)
    assert await text(box, "app/client.py") == CLIENT_AFTER
    assert await text(box, "app/store.py") == STORE_AFTER
    client, store = work.told("agent.file_edited")
    assert client.type is EventType.INFO
    assert client.data == {
        "path": "app/client.py",
        "created": False,
        "rules": [
            {"rule": "bare-except", "count": 1, "lines": [19]},
            {"rule": "raise-from", "count": 1, "lines": [12]},
            {"rule": "http-timeout", "count": 1, "lines": [10]},
            {"rule": "swallowed-exception", "count": 1, "lines": [19]},
        ],
    }
    assert store.message == "Edited app/store.py: raise-from (1)"
    assert work.result == AgentResult(
        outcome=Outcome.CHANGED,
        message="2 files changed by rules bare-except (1), raise-from (2), http-timeout (1), "
        "swallowed-exception (1); no language model was used.",
        usage=Usage(),
    )


async def test_what_is_told_is_json(box: Sandbox) -> None:
    """Every update can be put into an event."""
    for update in (await run(box)).updates:
        assert json.loads(json.dumps(update.data)) == update.data
        assert update.event.startswith("agent.")


async def test_other_files_are_not_touched(box: Sandbox) -> None:
    """Tests, vendored code, clean files and other languages stay as they are."""
    await run(box)
    for path in set(REPOSITORY) - {"app/client.py", "app/store.py"}:
        assert await text(box, path) == REPOSITORY[path]


async def test_a_second_run_has_nothing_to_do(box: Sandbox) -> None:
    """The recipe is idempotent, and says that it found nothing instead of refusing."""
    await run(box)
    agent = RecipesAgent()
    made = await plan(box, agent=agent)
    assert made.refusal is None
    assert made.files == ()
    assert made.steps[0].startswith("Change nothing")
    work = await implement(agent, made, box)
    assert work.updates == []
    assert work.result is not None
    assert work.result.outcome is Outcome.CHANGED
    assert work.result.message.startswith("The rules found nothing to change")


async def test_an_agent_that_did_not_plan_does_the_same(box: Sandbox) -> None:
    """A run that goes on in another process works the edits out again."""
    made = await plan(box)
    await implement(RecipesAgent(), made, box)
    assert await text(box, "app/client.py") == CLIENT_AFTER


async def test_a_file_that_changed_after_the_plan_is_worked_out_anew(box: Sandbox) -> None:
    """Nothing that somebody else wrote is lost."""
    agent = RecipesAgent()
    made = await plan(box, agent=agent)
    await box.write("app/store.py", STORE.encode() + b"\n\nX = 1\n")
    await box.write("app/client.py", CLEAN.encode())
    work = await implement(agent, made, box)
    assert await text(box, "app/store.py") == STORE_AFTER + "\n\nX = 1\n"
    assert await text(box, "app/client.py") == CLEAN
    assert [update.data["path"] for update in work.told("agent.file_edited")] == ["app/store.py"]


async def test_a_file_that_went_away_after_the_plan_is_told(box: Sandbox) -> None:
    """The others are still written."""
    agent = RecipesAgent()
    made = await plan(box, agent=agent)
    await box.remove("app/client.py")
    work = await implement(agent, made, box)
    (skipped,) = work.told("agent.file_skipped")
    assert skipped.data == {"path": "app/client.py", "reason": "it can no longer be read"}
    assert await text(box, "app/store.py") == STORE_AFTER


async def test_surveys_are_not_kept_for_ever(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones are worked out again, with the same result."""
    monkeypatch.setattr("patchkiln.agent.recipes.agent.MAX_KEPT_BYTES", 0)
    await run(box)
    assert await text(box, "app/client.py") == CLIENT_AFTER


async def test_an_unknown_prompt_is_refused_with_what_would_help(box: Sandbox) -> None:
    """The refusal names a known prompt and how to set a model; nothing is written."""
    agent = RecipesAgent()
    made = await plan(box, "Translate the README to German", agent)
    assert made.refusal is not None
    assert made.refusal.code == "prompt_not_recognised"
    assert PROMPT in made.refusal.reason
    for hint in ("PATCHKILN_MODEL", "ANTHROPIC_API_KEY", "builtin"):
        assert hint in made.refusal.remedy
    work = await implement(agent, made, box)
    assert work.updates == []
    assert work.result is not None
    assert work.result.outcome is Outcome.REFUSED


async def test_a_prompt_that_names_a_file_changes_that_file_alone(box: Sandbox) -> None:
    """The rest of the repository is not looked at."""
    await run(box, "Add error handling to app/store.py")
    assert await text(box, "app/store.py") == STORE_AFTER
    assert await text(box, "app/client.py") == CLIENT


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("Add error handling to app/missing.py", "path_not_found"),
        ("Add error handling to nowhere/", "path_not_found"),
        ("Add error handling to docs/", "language_not_supported"),
    ],
)
async def test_a_place_without_python_is_refused(lend: Lend, prompt: str, code: str) -> None:
    """The prompt is told that it names nothing, or nothing in Python."""
    async with lend({"app/store.py": STORE, "docs/index.md": "x\n"}) as sandbox:
        made = await plan(sandbox, prompt)
    assert made.refusal is not None
    assert made.refusal.code == code


async def test_a_repository_without_python_is_refused(lend: Lend) -> None:
    """The recipe knows no other language."""
    async with lend({"main.go": "package main\n"}) as sandbox:
        made = await plan(sandbox)
    assert made.refusal is not None
    assert made.refusal.code == "language_not_supported"


async def test_python_without_a_word_of_errors_is_not_refused(lend: Lend) -> None:
    """There is Python, and nothing to change in it."""
    async with lend({"main.py": "x = 1\n"}) as sandbox:
        work = await run(sandbox)
    assert work.result is not None
    assert work.result.outcome is Outcome.CHANGED
    assert "nothing to change" in work.result.message


async def test_one_bad_file_never_ends_the_run(box: Sandbox) -> None:
    """Each file that cannot be changed is told with its reason, the others are written."""
    bad = {
        "bad/binary.py": b"except\0",
        "bad/large.py": CLIENT.encode() + b"#" * (1 << 20),
        "bad/latin.py": CLIENT.encode() + b"# \xe4\n",
        "bad/nested.py": f"try:\n    {'not ' * 5000}x\nexcept:\n    pass\n".encode(),
        "bad/python2.py": b"try: f()\nexcept E, e: print e\n",
    }
    for path, data in bad.items():
        await box.write(path, data)
    work = await run(box)
    skipped = {str(each.data["path"]): each for each in work.told("agent.file_skipped")}
    assert list(skipped) == list(bad)
    assert skipped["bad/large.py"].data["reason"] == "it is larger than 1 MiB"
    assert all(each.type is EventType.WARNING for each in skipped.values())
    assert await text(box, "app/client.py") == CLIENT_AFTER
    assert work.result is not None
    assert work.result.message.endswith("5 files left alone.")
    for path, data in bad.items():
        assert await box.read(path, max_bytes=1 << 22) == data


async def test_odd_names_and_symlinks_are_no_problem(box: Sandbox) -> None:
    """A name that is no text is told, odd ones are served, symlinks are not followed."""
    await box.write("app/white space é.py", STORE.encode())
    await box.write("app/-e.py", STORE.encode())
    await shell(box, "printf 'try: f()\nexcept: g()\n' > \"$(printf 'app/n\\377.py')\"")
    await shell(box, "mkdir out && mv app/store.py out/x && ln -s ../out/x app/link.py")
    await shell(box, "mkfifo app/pipe.py; ln -s / app/root")
    work = await run(box)
    edited = [update.data["path"] for update in work.told("agent.file_edited")]
    assert edited == ["app/-e.py", "app/client.py", "app/white space é.py"]
    (skipped,) = work.told("agent.file_skipped")
    assert skipped.data == {"path": "app/n\\xff.py", "reason": "its name is no plain text"}
    assert await text(box, "out/x") == STORE


async def test_the_mode_of_a_file_stays(box: Sandbox) -> None:
    """A script remains executable."""
    await shell(box, "chmod 755 app/client.py")
    await run(box)
    assert (await box.stat("app/client.py")).mode & 0o777 == 0o755


@pytest.mark.parametrize(("bound", "value"), [("MAX_FILES", 2), ("MAX_READ_BYTES", 300)])
async def test_more_files_than_the_bounds_are_told(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """The plan and the run say what was not looked at."""
    monkeypatch.setattr(survey, bound, value)
    monkeypatch.setattr(survey, "BATCH_FILES", 1)
    agent = RecipesAgent()
    made = await plan(box, agent=agent)
    assert any("first 2 of 3" in risk for risk in made.risks)
    work = await implement(agent, made, box)
    (limited,) = work.told("agent.search_limited")
    assert limited.data == {"looked_at": 2}
    assert limited.type is EventType.WARNING


async def test_a_listing_that_is_cut_short_is_told(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that were cut off are not guessed."""
    monkeypatch.setattr(files, "MAX_LISTING_BYTES", 20)
    made = await plan(box)
    assert any("cut short" in risk for risk in made.risks)
    assert set(made.files) <= {"app/client.py", "app/store.py"}


@dataclass
class WithoutGrep:
    """A sandbox in which no program is found."""

    box: Sandbox
    id: str = "sbx_without_grep"

    def __getattr__(self, name: str) -> object:
        """Leave everything else to the real one."""
        return getattr(self.box, name)

    async def exec(self, argv: Sequence[str], **options: object) -> Execution:
        """Run a program that does not exist."""
        return await self.box.exec([f"{argv[0]}-is-missing"])


async def test_a_sandbox_without_grep_is_an_error_with_a_remedy(box: Sandbox) -> None:
    """Nothing is claimed of a repository that could not be searched."""
    task = await task_for(box)
    with pytest.raises(AgentError, match="no grep") as caught:
        await RecipesAgent().plan(task, WithoutGrep(box))  # type: ignore[arg-type] # partly lent
    assert "grep" in caught.value.remedy


async def test_its_name_is_the_one_that_requests_use() -> None:
    """The port's name is what a request names."""
    assert RecipesAgent().name == "recipes"
