"""What `patchkiln sandbox run` lends a command: variables, a terminal, hosts, credentials."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.command_line import command, environment, patchkiln

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sandbox.md"
PATIENCE_S = 60.0
SECRET = "hunter2-of-the-test"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a fresh data directory."""
    return environment(tmp_path / "data")


def test_variables_are_those_that_were_given(env: dict[str, str]) -> None:
    """The command gets what ``--env`` names, and nothing of this process's own."""
    script = "echo ${GREETING-none} ${PATCHKILN_DATA_DIR-none}"
    done = patchkiln("sandbox", "run", "--env", "GREETING=a=b", "--", "sh", "-c", script, env=env)
    assert done.stdout == b"a=b none\n"


def test_a_terminal_is_lent_and_given_back(env: dict[str, str]) -> None:
    """The command has a terminal of our size, reads what is typed, and ours is as before."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    before = termios.tcgetattr(theirs)
    script = "tty; stty size; read word; echo got=$word; trap 'stty size; exit 5' WINCH; "
    script += "echo waiting; while :; do sleep 0.05; done"
    argv = command("sandbox", "run", "--tty", "--", "bash", "-c", script)
    process = subprocess.Popen(argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        shown = _until(ours, b"33 101", b"")
        os.write(ours, b"abc\r")
        shown = _until(ours, b"waiting", shown)
        assert b"got=abc" in shown
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 70, 0, 0))
        # The kernel tells the processes of the terminal, and ours has none for its own.
        process.send_signal(28)
        shown = _until(ours, b"20 70", shown)
        assert process.wait(PATIENCE_S) == 5
        assert re.search(rb"/dev/pts/\d+", shown)
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def _until(descriptor: int, wanted: bytes, shown: bytes) -> bytes:
    limit = time.monotonic() + PATIENCE_S
    while wanted not in shown:
        assert time.monotonic() < limit, shown
        if select.select([descriptor], [], [], 1.0)[0]:
            shown += os.read(descriptor, 4096)
    return shown


def test_without_a_terminal_none_can_be_lent(env: dict[str, str]) -> None:
    """It is wrong usage, and what to do is said."""
    done = patchkiln("sandbox", "run", "--tty", "--", "true", env=env)
    assert done.returncode == 2
    assert b"Leave --tty out" in done.stderr


class _Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the header that the proxy adds."""
        body = (self.headers.get("Authorization") or "none").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@pytest.fixture
def echo() -> Iterator[int]:
    """Serve on loopback, telling each request's credential; return the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_credential_is_added_outside(env: dict[str, str], echo: int) -> None:
    """The host is sent the value; inside, neither the variable nor the value is to be found."""
    script = f"curl --silent http://localhost:{echo}/; echo; env; cat /proc/*/environ"
    done = patchkiln(
        *("sandbox", "run", "--network", f"localhost:{echo}"),
        *("--credential", "localhost=TOKEN_OF_TEST", "--", "sh", "-c", script),
        env={**env, "TOKEN_OF_TEST": SECRET},
    )
    first, _, rest = done.stdout.partition(b"\n")
    assert first == f"Bearer {SECRET}".encode(), done.stderr
    assert b"TOKEN_OF_TEST" not in rest + done.stderr
    assert SECRET.encode() not in rest + done.stderr


def test_a_credential_for_a_host_that_is_closed_is_wrong_usage(env: dict[str, str]) -> None:
    """Nothing is sent anywhere by mistake."""
    done = patchkiln(
        *("sandbox", "run", "--credential", "a.example=TOKEN_OF_TEST", "--", "true"),
        env={**env, "TOKEN_OF_TEST": SECRET},
    )
    assert done.returncode == 2
    assert b"which --network does not" in done.stderr


def test_a_credential_goes_to_every_port_of_its_host(env: dict[str, str], echo: int) -> None:
    """However many rules name the host, and whatever stands before them."""
    done = patchkiln(
        *("sandbox", "run", "--network", f"*,localhost:9,localhost:{echo}"),
        *("--credential", "localhost=TOKEN_OF_TEST"),
        *("--", "curl", "--silent", f"http://localhost:{echo}/"),
        env={**env, "TOKEN_OF_TEST": SECRET},
    )
    assert done.stdout == f"Bearer {SECRET}".encode(), done.stderr


def test_a_credential_for_every_host_is_wrong_usage(env: dict[str, str]) -> None:
    """The command would choose who gets it."""
    done = patchkiln(
        *("sandbox", "run", "--network", "*", "--credential", "*=TOKEN_OF_TEST", "--", "true"),
        env={**env, "TOKEN_OF_TEST": SECRET},
    )
    assert done.returncode == 2
    assert b"whichever host the command chooses" in done.stderr


def test_what_is_not_reached_is_told(env: dict[str, str], echo: int) -> None:
    """The host and the rule are told on stderr, beside the command's own words."""
    words = ("curl", "--silent", "--show-error", "http://evil.example/")
    done = patchkiln("sandbox", "run", "--network", f"localhost:{echo}", "--", *words, env=env)
    assert done.stdout != b"none"
    assert b"patchkiln: not reached: evil.example, port 80: " in done.stderr


def test_the_code_of_the_page_runs(tmp_path: Path, env: dict[str, str]) -> None:
    """As printed, it forks a box and shows that neither fork sees the other's change."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.stdout == b"hello\ngoodbye\nhello\n", done.stderr
