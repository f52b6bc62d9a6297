"""A git host for tests: ``git http-backend`` over HTTP on loopback, and the ways hosts fail.

    with GitServer(tmp_path / "served") as server:
        server.add("project", {"README.md": b"hello"})
        server.url("project")  # http://127.0.0.1:PORT/project.git

Repositories are bare, live in ``root`` and are served with and without ``.git`` in the URL, read
only. `GitServer.answer` makes the server refuse, redirect or stall one repository; `requests`
lists what was asked, so that a test can see that nothing was transferred, and `asked` is set by the
first request.
"""

import enum
import os
import ssl
import subprocess
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import urlsplit

_CHUNK = 64 << 10
_GIT_ENV = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Ann Author",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann Author",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
}


class Answer(enum.Enum):
    """What the server does when it is asked for a repository."""

    SERVE = "serve"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not found"
    REDIRECT = "redirect"
    STALL = "stall"
    HANG_UP = "hang up"
    SERVER_ERROR = "server error"


@dataclass(frozen=True, slots=True)
class Symlink:
    """A file's content for `commit`: a symbolic link to ``target``."""

    target: str


@dataclass(frozen=True, slots=True)
class Program:
    """A file's content for `commit`: an executable file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Submodule:
    """A directory's content for `commit`: a submodule at a commit that nobody has."""

    commit: str


Content = bytes | Symlink | Program | Submodule | None


def git(
    *arguments: str, cwd: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> str:
    """Run git on a repository that the test itself made; return its stdout, stripped."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=cwd,
        input=stdin,
        env={**_GIT_ENV, **(env or {})},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"git {arguments}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def init(repository: Path, *, branch: str = "main", bare: bool = False) -> Path:
    """Make an empty repository."""
    repository.mkdir(parents=True)
    kind = ["--bare"] if bare else []
    git("init", "--quiet", "--template=", f"--initial-branch={branch}", *kind, cwd=repository)
    return repository


def commit(
    repository: Path, files: Mapping[str, Content], *, branch: str = "main", message: str = "Change"
) -> str:
    """Add a commit to a branch of a bare repository and return its id; None deletes a file.

    Names go through ``git fast-import``, so that a tree can hold what no work tree could.
    """
    lines = [f"commit refs/heads/{branch}\n".encode()]
    lines.append(b"committer Ann Author <ann@example.org> 1700000000 +0000\n")
    lines.append(b"data %d\n%s\n" % (len(message.encode()), message.encode()))
    if _exists(repository, branch):
        lines.append(f"from refs/heads/{branch}^0\n".encode())
    lines += [_file_command(name, content) for name, content in files.items()]
    git("fast-import", "--quiet", "--force", cwd=repository, stdin=b"".join(lines))
    return git("rev-parse", f"refs/heads/{branch}", cwd=repository)


def commit_tree(repository: Path, tree: Path, *, branch: str = "main") -> str:
    """Commit a directory as it is, ignore rules included, and return the commit's id."""
    with tempfile.TemporaryDirectory() as scratch:
        work = {
            "GIT_DIR": str(repository),
            "GIT_WORK_TREE": str(tree),
            "GIT_INDEX_FILE": f"{scratch}/index",
        }
        git("add", "--all", "--force", ".", cwd=tree, env=work)
        written = git("write-tree", cwd=tree, env=work)
    made = git("commit-tree", "-m", f"Import {tree.name}", written, cwd=repository)
    git("update-ref", f"refs/heads/{branch}", made, cwd=repository)
    return made


def unpack(archive: Path, into: Path) -> Path:
    """Unpack a source package (``.tar.gz`` or ``.zip``) and return its one top directory."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(into)  # noqa: S202 - a package that the test chose
    else:
        with tarfile.open(archive) as tar:
            # The first releases of 3.11 have no such filter.
            if hasattr(tarfile, "data_filter"):
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(into)  # noqa: S202 - as above
    (top,) = into.iterdir()
    return top


def _exists(repository: Path, branch: str) -> bool:
    return bool(git("for-each-ref", f"refs/heads/{branch}", cwd=repository))


def _file_command(name: str, content: Content) -> bytes:
    raw = name.encode("utf-8", "surrogateescape")
    quoted = b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
    if content is None:
        return b"D %s\n" % quoted
    if isinstance(content, Submodule):
        return b"M 160000 %s %s\n" % (content.commit.encode(), quoted)
    if isinstance(content, Symlink):
        mode, data = b"120000", content.target.encode("utf-8", "surrogateescape")
    elif isinstance(content, Program):
        mode, data = b"100755", content.data
    else:
        mode, data = b"100644", content
    return b"M %s inline %s\ndata %d\n%s\n" % (mode, quoted, len(data), data)


@dataclass(slots=True)
class GitServer:
    """Serves the bare repositories below ``root``; a context manager."""

    root: Path
    requests: list[str] = field(default_factory=list[str])
    asked: threading.Event = field(default_factory=threading.Event)
    _answers: dict[str, tuple[Answer, str]] = field(default_factory=dict[str, tuple[Answer, str]])
    _released: threading.Event = field(default_factory=threading.Event)
    _http: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start serving on a free port of 127.0.0.1."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._http = _Http(("127.0.0.1", 0), _bind(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and let go of every stalled request."""
        self._released.set()
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    @property
    def port(self) -> int:
        """Return the port that the server listens on."""
        if self._http is None:
            raise RuntimeError("The server is not running.")
        return int(self._http.server_address[1])

    @property
    def prefix(self) -> str:
        """Return the prefix that a policy must allow (`PATCHKILN_GIT_ALLOW`)."""
        return f"http://127.0.0.1:{self.port}/"

    def url(self, name: str, *, suffix: str = ".git") -> str:
        """Return the clone URL of a repository."""
        return f"{self.prefix}{name}{suffix}"

    def path(self, name: str) -> Path:
        """Return where a bare repository lies."""
        return self.root / f"{name}.git"

    def add(self, name: str, files: Mapping[str, Content], *, branch: str = "main") -> str:
        """Make a repository with one commit and return the commit's id; no files: no commit."""
        repository = init(self.path(name), branch=branch, bare=True)
        return commit(repository, files, branch=branch, message="Begin") if files else ""

    def add_tree(self, name: str, tree: Path) -> str:
        """Make a repository of a directory and return the id of its one commit."""
        return commit_tree(init(self.path(name), bare=True), tree)

    def add_archive(self, name: str, archive: Path) -> str:
        """Make a repository of a source package and return the id of its one commit."""
        with tempfile.TemporaryDirectory() as scratch:
            return self.add_tree(name, unpack(archive, Path(scratch)))

    def commit(self, name: str, files: Mapping[str, Content], *, branch: str = "main") -> str:
        """Add a commit to a repository and return its id."""
        return commit(self.path(name), files, branch=branch)

    def answer(self, name: str, answer: Answer, *, location: str = "") -> None:
        """Choose what happens to requests for a repository; it need not exist."""
        self._answers[name] = (answer, location)

    def answer_to(self, name: str) -> tuple[Answer, str]:
        """Return what was chosen, and where a redirect leads."""
        return self._answers.get(name, (Answer.SERVE, ""))

    def use_tls(self, certificate: Path, key: Path) -> None:
        """Speak https from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if self._http is not None:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)

    def stall(self) -> None:
        """Hold the calling request until the server stops."""
        self._released.wait()


class _Http(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up: tests kill clones on purpose."""


def _bind(server: GitServer) -> type[BaseHTTPRequestHandler]:
    return type("BoundRequest", (_Request,), {"server_state": server})


class _Request(BaseHTTPRequestHandler):
    """One request, answered by ``git http-backend`` after RFC 3875 (CGI)."""

    server_state: GitServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent: the requests are in `GitServer.requests`."""

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        name, _, rest = parts.path.lstrip("/").partition("/")
        name = name.removesuffix(".git")
        self.server_state.requests.append(f"{self.command} {self.path}")
        self.server_state.asked.set()
        answer, location = self.server_state.answer_to(name)
        if answer is Answer.SERVE:
            self._serve(name, rest, parts.query)
        elif answer is Answer.STALL:
            self.server_state.stall()
        elif answer is not Answer.HANG_UP:
            self._refuse(answer, location, self.path.partition("/info/")[2])

    def _refuse(self, answer: Answer, location: str, rest: str) -> None:
        statuses = {
            Answer.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
            Answer.NOT_FOUND: HTTPStatus.NOT_FOUND,
            Answer.REDIRECT: HTTPStatus.FOUND,
            Answer.SERVER_ERROR: HTTPStatus.SERVICE_UNAVAILABLE,
        }
        self.send_response(statuses[answer])
        if answer is Answer.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
        if answer is Answer.REDIRECT:
            self.send_header("Location", f"{location}/info/{rest}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _serve(self, name: str, rest: str, query: str) -> None:
        with subprocess.Popen(
            ["git", "http-backend"],
            env=self._cgi(f"/{name}.git/{rest}", query),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as backend:
            # The backend reads the whole request before it answers.
            with suppress(BrokenPipeError), _pipe(backend.stdin) as stdin:
                for piece in self._body():
                    stdin.write(piece)
            with _pipe(backend.stdout) as stdout:
                self._relay(stdout)

    def _cgi(self, path: str, query: str) -> dict[str, str]:
        return {
            **_GIT_ENV,
            "GIT_PROJECT_ROOT": str(self.server_state.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "REMOTE_ADDR": self.client_address[0],
        }

    def _body(self) -> list[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return [self.rfile.read(int(self.headers.get("Content-Length", "0")))]
        pieces: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        return pieces

    def _relay(self, backend: IO[bytes]) -> None:
        headers: list[tuple[str, str]] = []
        while line := backend.readline().strip():
            key, _, value = line.decode("latin-1").partition(": ")
            headers.append((key, value))
        status = int(dict(headers).get("Status", "200").split()[0])
        self.send_response(status)
        for key, value in headers:
            if key != "Status":
                self.send_header(key, value)
        self.end_headers()
        while piece := backend.read(_CHUNK):
            self.wfile.write(piece)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("The process was started without pipes.")
    return stream
