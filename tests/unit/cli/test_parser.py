"""The command line as it is typed."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from patchkiln.cli import main
from patchkiln.cli.parser import build_parser

COMMANDS = ("serve", "run", "doctor", "sandbox", "runs", "show", "logs", "cancel", "patch")


def leaves_with(argv: Sequence[str]) -> int | str | None:
    """Return the code with which a command line leaves before any command is run."""
    with pytest.raises(SystemExit) as left:
        main(argv)
    return left.value.code


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names all that this version serves, and nothing that belongs to a later one."""
    assert leaves_with(["--help"]) == 0
    words = capsys.readouterr().out.split()
    assert set(COMMANDS) <= set(words)
    assert not {"api", "worker", "e2b-server"} & set(words)


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["sandbox", "run"]])
def test_every_command_has_its_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains itself without being run."""
    assert leaves_with([*command, "--help"]) == 0
    assert f"patchkiln {' '.join(command)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["bake"],
        ["run"],
        ["run", "https://example.org/a/b"],
        ["run", "https://example.org/a/b", " \n"],
        ["run", "https://example.org/a/b", "p", "--colour"],
        ["run", "https://example.org/a/b", "p", "--out", "x"],
        ["sandbox"],
        ["sandbox", "run", "--timeout", "0", "--", "true"],
        ["sandbox", "run", "--memory", "lots", "--", "true"],
        ["sandbox", "run", "--network", "a.*.example.org", "--", "true"],
        ["sandbox", "run", "--credential", "a.example.org", "--", "true"],
        ["sandbox", "run", "--credential", "a.example.org=NOT_SET", "--", "true"],
        ["sandbox", "run", "--provider", "docker", "--", "true"],
        ["runs", "--limit", "0"],
        ["logs"],
    ],
)
def test_wrong_usage_leaves_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is missing, unknown or out of bounds is told on stderr, with exit code 2."""
    assert leaves_with(argv) == 2
    assert "usage:" in capsys.readouterr().err


def test_what_follows_the_dashes_belongs_to_the_command() -> None:
    """Options of the sandbox stand before ``--``; everything after it is passed on as it is."""
    parsed = build_parser().parse_args(
        ["sandbox", "run", "--timeout", "3", "--", "sh", "-c", "echo", "--", "--timeout", "9"]
    )
    assert parsed.timeout == 3
    assert parsed.command == ["--", "sh", "-c", "echo", "--", "--timeout", "9"]


def test_the_dashes_may_be_left_out() -> None:
    """A command that begins with no dash is taken as it is, its options with it."""
    parsed = build_parser().parse_args(["sandbox", "run", "--memory", "64M", "ls", "-la"])
    assert parsed.command == ["ls", "-la"]
    assert parsed.memory == 64 << 20


def test_a_sandbox_without_a_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """``sandbox run`` alone says how to write it, and starts no sandbox."""
    assert main(["sandbox", "run", "--"]) == 2
    assert "after '--'" in capsys.readouterr().err


def test_help_loads_next_to_nothing() -> None:
    """Help needs neither an event loop, nor pydantic, nor rich: it has to come at once."""
    code = (
        "import sys\n"
        "from patchkiln.cli.parser import build_parser\n"
        "import patchkiln.cli\n"
        "build_parser().format_help()\n"
        "print(*sorted(set(sys.modules) & {'asyncio', 'rich', 'pydantic', 'fastapi', 'json'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == []
