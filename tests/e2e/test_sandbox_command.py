"""``patchkiln sandbox run``: a command in a sandbox looks like a command."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.command_line import command, ended, environment, patchkiln, started


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a fresh data directory."""
    return environment(tmp_path / "data")


def test_streams_and_exit_code_pass_through(env: dict[str, str]) -> None:
    """Every byte of stdout and stderr comes out where it belongs, and so does the exit code."""
    script = r"printf 'out\0\377\n'; printf 'err\r\001' >&2; exit 7"
    done = patchkiln("sandbox", "run", "--", "sh", "-c", script, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\0\xff\n", b"err\r\x01")


def test_a_command_that_is_not_there_is_127(env: dict[str, str]) -> None:
    """As a shell has it."""
    assert patchkiln("sandbox", "run", "--", "no-such-program", env=env).returncode == 127


def test_stdin_is_passed(env: dict[str, str]) -> None:
    """What is piped in reaches the command, however much, to the last byte."""
    data = os.urandom(1 << 20) * 5
    done = patchkiln("sandbox", "run", "--", "cat", env=env, stdin=data)
    assert done.returncode == 0
    assert done.stdout == data


def test_an_open_stdin_does_not_hold_the_command_up(env: dict[str, str]) -> None:
    """A pipe that nobody closes keeps neither the command from running nor us from ending."""
    reading, writing = os.pipe()
    try:
        done = patchkiln("sandbox", "run", "--", "echo", "done", env=env, stdin=reading)
    finally:
        os.close(reading)
        os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_output_comes_as_it_is_made(env: dict[str, str]) -> None:
    """The first line is there while the command still waits for more input."""
    argv = command("sandbox", "run", "--", "sh", "-c", "echo first; read line; echo $line")
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        out, _ = process.communicate(b"second\n", timeout=60)
    assert out == b"second\n"


def test_the_time_limit_ends_it_with_124(env: dict[str, str]) -> None:
    """A command that does not end is ended with all that it started, and says why on stderr."""
    done = patchkiln(
        "sandbox",
        "run",
        "--timeout",
        "0.5",
        "--",
        "sh",
        "-c",
        "echo on; sleep 60 & sleep 60",
        env=env,
    )
    assert (done.returncode, done.stdout) == (124, b"on\n")
    assert b"time limit of 0.5 s" in done.stderr


@pytest.mark.parametrize(
    ("options", "cause", "fix"),
    [
        (["--provider", "e2b"], "does not serve the provider 'e2b'", "--provider"),
        (["--provider", "container"], "No container engine", "podman.socket"),
    ],
)
def test_no_sandbox_is_125_with_the_cause_and_the_fix(
    env: dict[str, str], options: list[str], cause: str, fix: str
) -> None:
    """What keeps a sandbox from being had is told on stderr; the command was not run."""
    env["PATCHKILN_CONTAINER_SOCKET"] = "/nowhere/podman.sock"
    done = patchkiln("sandbox", "run", *options, "--", "echo", "ran", env=env)
    assert (done.returncode, done.stdout) == (125, b"")
    assert cause in done.stderr.decode()
    assert fix in done.stderr.decode()


def test_a_wrong_setting_is_wrong_usage(tmp_path: Path) -> None:
    """It exits with 2, as every other command does, and says what to write."""
    env = environment(tmp_path / "data", sandbx="local")
    done = patchkiln("sandbox", "run", "--", "echo", "ran", env=env)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Did you mean PATCHKILN_SANDBOX?" in done.stderr


def test_a_data_directory_that_cannot_be_made_is_125(tmp_path: Path) -> None:
    """The machine can isolate, the server cannot prepare it: that is no sandbox either."""
    (tmp_path / "file").touch()
    env = environment(tmp_path / "file" / "data")
    done = patchkiln("sandbox", "run", "--", "true", env=env)
    assert done.returncode == 125
    assert b"PATCHKILN_DATA_DIR" in done.stderr


def test_the_workspace_is_copied_in_and_never_written_back(
    env: dict[str, str], tmp_path: Path
) -> None:
    """Names that are no UTF-8, links, modes and empty directories arrive; the original stays."""
    work = tmp_path / "work"
    (work / "empty").mkdir(parents=True)
    (work / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (work / "run.sh").chmod(0o750)
    (work / "private").write_text("secret")
    (work / "private").chmod(0o600)
    (work / "open").touch()
    (work / "open").chmod(0o666)
    Path(os.fsdecode(os.fsencode(work) + b"/na\xffme")).write_text("odd")
    (work / "link").symlink_to("run.sh")
    (work / "out").symlink_to("/etc/shadow")
    script = r"""
        ./run.sh; cat private; cat "$(printf 'na\377me')"; readlink link; readlink out
        stat -c %a run.sh private open; ls -d empty; rm private; echo new >new; echo changed >run.sh
    """
    done = patchkiln("sandbox", "run", "--workspace", work, "--", "sh", "-ec", script, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"ran\nsecretoddrun.sh\n/etc/shadow\n750\n600\n666\nempty\n"
    assert (work / "private").read_text() == "secret"
    assert (work / "run.sh").read_text().startswith("#!/bin/sh")
    assert not (work / "new").exists()


def test_a_workspace_that_does_not_fit_is_125(env: dict[str, str], tmp_path: Path) -> None:
    """More than the sandbox's disk holds is told as such, and the command is not run."""
    (tmp_path / "work").mkdir()
    with (tmp_path / "work" / "huge").open("wb") as huge:
        huge.truncate(5 << 30)
    done = patchkiln(
        "sandbox", "run", "--workspace", tmp_path / "work", "--", "echo", "ran", env=env
    )
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"could not be written into the sandbox" in done.stderr


def test_a_missing_workspace_is_wrong_usage(env: dict[str, str], tmp_path: Path) -> None:
    """A directory that is not there is the caller's mistake."""
    done = patchkiln("sandbox", "run", "--workspace", tmp_path / "nowhere", "--", "true", env=env)
    assert done.returncode == 2


def test_the_memory_limit_holds(env: dict[str, str]) -> None:
    """What wants more than its memory is killed; what wants less is not."""
    code = "x = bytearray({} << 20); print('ok')"
    small = ("sandbox", "run", "--memory", "256M", "--", "python3", "-c")
    assert patchkiln(*small, code.format(50), env=env).stdout == b"ok\n"
    done = patchkiln(*small, code.format(1500), env=env)
    assert done.returncode != 0
    assert done.stdout == b""


@pytest.fixture
def page() -> Iterator[int]:
    """Serve this directory on a free port of the loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"reached")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def fetch(host: str, port: int) -> list[str]:
    """Return a command that prints what an HTTP server answers."""
    code = f"import urllib.request as r; print(r.urlopen('http://{host}:{port}/').read().decode())"
    return ["python3", "-c", code]


def test_the_network_is_what_was_named(env: dict[str, str], page: int) -> None:
    """A host and port that are named can be reached, by that name; nothing else can."""
    run = ("sandbox", "run")
    named = patchkiln(
        *run, "--network", f"localhost:{page}", "--", *fetch("localhost", page), env=env
    )
    assert named.stdout == b"reached\n", named.stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = patchkiln(
            *run, "--network", f"localhost:{page}", "--", *fetch("localhost", port), env=env
        )
    assert done.returncode == 1
    assert patchkiln(*run, "--", *fetch("127.0.0.1", page), env=env).returncode == 1


def test_ctrl_c_ends_it_with_130(env: dict[str, str]) -> None:
    """The command is ended, the sandbox is gone, and a script can tell."""
    process = started(command("sandbox", "run", "--", "sh", "-c", "echo on; sleep 60"), env=env)
    assert process.stdout is not None
    assert process.stdout.read(3) == b"on\n"
    ended(process, signal.SIGINT)
    assert process.returncode == 130


def test_a_reader_that_leaves_ends_the_command(env: dict[str, str]) -> None:
    """``patchkiln sandbox run -- yes | head -1`` comes to an end, without a word of its own."""
    process = started(command("sandbox", "run", "--", "yes"), env=env)
    assert process.stdout is not None
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    process.stdout = None
    _, said = ended(process)
    assert process.returncode == 128 + signal.SIGPIPE
    assert said == b""
