"""How a run is shown."""

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from rich.console import Console

from patchkiln.cli.frame import Frame
from patchkiln.cli.progress import LiveProgress, PlainProgress, open_progress
from patchkiln.domain.terminal import strip_ansi
from tests.unit.cli import recorded

LINE_HEAD = len("[  5%] init            ")
Recording = Callable[[], list[dict[str, Any]]]


def shown(events: Sequence[dict[str, Any]], *, live: bool = False, width: int = 100) -> str:
    """Return what a terminal, or a file, is shown of a run; of a terminal the words alone."""
    page = io.StringIO()
    console = Console(
        file=page, width=width, height=30, force_terminal=live, no_color=True, highlight=False
    )
    with (LiveProgress if live else PlainProgress)(console) as progress:
        for event in events:
            progress.show(Frame.of(event))
    return strip_ansi(page.getvalue()) if live else page.getvalue()


def test_plain_lines_carry_percent_step_and_words() -> None:
    """In a file every line stands for itself."""
    lines = shown(recorded.changed()).splitlines()
    assert (
        lines[0] == "[  5%] init            Sandbox sbx_91ac0a2be5d1f1f0: local, isolation level L3"
    )
    assert "[ 50%] clone           done in 131 ms" in lines
    assert "[ 50%] analysis        ✓ base: python -m pytest -q  passed in 912 ms" in lines
    assert "[ 88%] implementation  M src/inventory/store.py  +6 -4" in lines
    assert lines[-2] == "[100%] complete        ✓ changed · verified · 2 files · 3.2 s"


def test_a_file_gets_no_control_character() -> None:
    """What is not a terminal is sent no colour and no cursor move."""
    page = shown(recorded.changed())
    assert "\x1b" not in page
    assert "\r" not in page


@pytest.mark.parametrize("recording", [recorded.changed, recorded.failed, recorded.regressed])
def test_a_terminal_keeps_every_line_that_a_file_gets(recording: Recording) -> None:
    """The live block is taken away; what was told in it stays above, once."""
    page = shown(recording(), live=True)
    for line in shown(recording()).splitlines():
        words = line[LINE_HEAD:].removeprefix("✓ ").removeprefix("✗ ").removeprefix("! ")
        if not words.startswith("done in"):
            assert words in page


def test_finished_steps_show_their_duration_in_a_terminal() -> None:
    """Each step leaves a heading with a tick and the time it took."""
    page = shown(recorded.changed(), live=True)
    assert "clone            131 ms" in page
    assert page.count("131 ms") == 1


def test_a_plan_is_shown_as_its_text() -> None:
    """Intent, numbered steps and risks are lines of their own."""
    page = shown(recorded.changed())
    assert "1. Keep the cause of 4 errors that are raised anew" in page
    assert "Risk: a caller that waits longer" in page


def test_a_failure_shows_its_cause_and_its_fix() -> None:
    """The error, what to do, and the end of what the failed command said."""
    page = shown(recorded.failed())
    assert "✗ The repository does not exist." in page
    assert "fix: Check owner and name in the URL." in page
    assert "fatal: repository" in page
    assert page.splitlines()[-1].endswith("✗ failed · 3.2 s")


def test_a_failed_check_shows_the_end_of_its_output() -> None:
    """The last lines are where a test runner says what failed; the first are not repeated."""
    page = shown(recorded.regressed())
    assert "✗ result: python -m pytest -q  failed in 1 min 11 s" in page
    assert "FAILED tests/test_store.py" in page
    assert "line 3\n" not in page
    assert "✗ changed · regressed · 1 file · 1 min 15 s" in page


def test_what_passes_is_not_kept() -> None:
    """Git's percentages and the start of a check are told by the live part alone."""
    page = shown(recorded.changed())
    assert "Receiving objects" not in page
    assert "Checking the base" not in page


def test_a_hostile_message_cannot_steer_the_terminal() -> None:
    """Messages, file names and output come from the repository: no escape sequence survives."""
    events = recorded.regressed()
    for event in events:
        event["message"] = f"\x1b]0;owned\x07{event['message']}\x1b[2J"
        if "tail" in event["data"]:
            event["data"]["tail"] += "\x1b[31m\x08 [bold]text[/bold]"
    page = shown(events)
    assert not set(page) & set("\x1b\x07\x08")
    assert "[bold]text[/bold]" in page


def test_an_unknown_event_is_told_by_its_message() -> None:
    """A newer server's events are not lost on an older client."""
    event = {**recorded.changed()[0], "event": "moon.risen", "message": "The moon rose"}
    assert "The moon rose" in shown([event])


def test_what_the_agent_says_and_runs_is_shown() -> None:
    """A model's words, and each command with its exit code; its tool calls pass."""
    event = recorded.changed()[0]
    page = shown(
        [
            {**event, "event": "agent.message", "data": {"text": "Let me look.\nThere it is."}},
            {**event, "event": "agent.tool_called", "message": "grep raise"},
            {
                **event,
                "event": "agent.command_finished",
                "data": {"command": "pytest -x", "exit_code": 1, "duration_ms": 400},
            },
        ]
    )
    assert "Let me look." in page
    assert "There it is." in page
    assert "grep raise" not in page
    assert "! $ pytest -x  exit code 1, in 400 ms" in page


def test_the_cost_of_a_model_stands_in_the_last_line() -> None:
    """Tokens and price are told where a model was asked; an unknown price is not zero."""
    last = recorded.changed()[-1]
    usage = {"turns": 3, "input_tokens": 12_000, "output_tokens": 800, "cost_usd": 0.0421}
    last["summary"]["usage"] = usage
    assert "12,000 tokens in, 800 out · $0.0421" in shown([last])
    last["summary"]["usage"] = {**usage, "cost_usd": None}
    assert "cost unknown" in shown([last])


def test_many_files_are_counted_not_listed() -> None:
    """A patch of hundreds of files does not flood the terminal."""
    made = next(event for event in recorded.changed() if event["event"] == "patch.made")
    names = [f"f{number}.py" for number in range(40)]
    made["data"] = {
        "files_modified": 40,
        "files": [{"path": name, "kind": "added", "added": 1, "removed": 0} for name in names],
    }
    page = shown([made])
    assert "A f0.py  +1 -0" in page
    assert "f39.py" not in page
    assert "and 28 more files" in page


def test_a_narrow_terminal_folds_long_lines() -> None:
    """Nothing is cut off in what stays on the screen."""
    page = "".join(shown(recorded.changed(), live=True, width=40).split())
    assert "Improveerrorhandlingin3filesbyrules,withoutalanguagemodel" in page


def test_json_is_what_the_server_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs: one event a line on stdout, unchanged; words go to stderr."""
    events = recorded.changed()
    with open_progress(as_json=True) as progress:
        progress.note("a word")
        for event in events:
            progress.show(Frame.parse(json.dumps(event)))
    captured = capsys.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == events
    assert captured.err == "a word\n"
