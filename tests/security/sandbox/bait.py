"""What lies on the host for probes to find, and what tells that one has.

Every piece of it is harmless and of this process's making: files, a process, services, shared
memory. The secret is never told to a probe: a finding that holds it has read it from the host.
"""

import ctypes
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self, cast

from tests.security.sandbox.probes.program import Finding, Probe, ProbeBroken, read_finding

_MACHINE_FILES: Final = ("/etc/shadow", "/etc/gshadow")
_SYSTEM_PLACES: Final = ("/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/etc/cron.d", "/var", "/opt")
_OTHER_PLACES: Final = ("/var/spool", "/root", "/boot", "/srv")
_MARKER: Final = ("sleep", "10000")
_NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_DYING_S: Final = 0.01
_SETTING: Final = "vm/stat_interval"
_IPC_CREAT: Final = 0o1000
_IPC_RMID: Final = 0
_SHM_BYTES: Final = 4096
_OPEN_TO_ALL: Final = 0o666


class Bait:
    """The bait of one launching user; a context manager."""

    def __init__(self, owner: int) -> None:
        """Take the user that will start sandboxes and owns what is laid out."""
        self.owner = owner
        self.secret = f"secret-{secrets.token_hex(16)}"
        self.token = f"token-{secrets.token_hex(8)}"
        self.directory = Path(tempfile.mkdtemp(prefix="escape-bait-", dir="/var/tmp"))
        self.home = self.directory / "home"
        self.reached: set[str] = set()
        self._stack = ExitStack()
        self._key = secrets.randbelow(1 << 30) + 1
        self._setting = Path("/proc/sys", _SETTING)
        self._set_to = self._setting.read_text()

    def __enter__(self) -> Self:
        """Lay everything out."""
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory)
            self._lay_files()
            stack.enter_context(self._marker_process())
            stack.enter_context(self._shared_memory())
            self._port = stack.enter_context(self._services())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Take everything away."""
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """Return what the launcher's environment holds."""
        return {"BAIT_SECRET": self.secret}

    def told(self) -> Mapping[str, Any]:
        """Return what a probe may know: where things are, never what they say."""
        return {
            "token": self.token,
            "root": self.owner == 0,
            "files": [str(path) for path in self._files()],
            "places": list(map(str, self._own_places())),
            "pid": self.marker.pid,
            "addresses": self._addresses(),
            "port": self._port,
            "abstract": f"{self.token}-abstract",
            "socket": str(self.directory / "service.sock"),
            "key": self._key,
            "setting": _SETTING,
            "hostname": socket.gethostname(),
            "namespaces": {
                name: str(Path("/proc/self/ns", name).readlink()) for name in _NAMESPACES
            },
        }

    def effects(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what the host has lost since the last call, and to whom it was told."""
        effects = {f"{name} reached" for name in self.reached}
        self.reached.clear()
        if self.secret in str(found.get("seen", "")):
            effects.add("secret read")
        digests = found.get("digests")
        if isinstance(digests, list) and self._digests() & set(
            map(str, cast("list[object]", digests))
        ):
            effects.add("a file of the host read")
        effects |= {f"wrote in {place}" for place in self._written()}
        effects |= self._marker_harm()
        effects |= self._setting_harm()
        return tuple(sorted(effects))

    def judge(self, probe: Probe, stdout: str, stderr: str) -> Finding:
        """Return what came of a probe, from what it printed and from what the host saw.

        Raises `ProbeBroken` for one that ended early where that is no answer.
        """
        found: Mapping[str, Any] = {}
        try:
            found = read_finding(stdout, stderr)
        except ProbeBroken:
            if not probe.may_die:
                raise
        reached = dict.fromkeys(map(str, found.get("reached", ())))
        return Finding(escaped=self.effects(found), reached=tuple(reached))

    def survivors(self) -> list[int]:
        """Return the processes of the machine that a probe left behind."""
        return [pid for pid, words in _commands() if f"daemon-{self.token}".encode() in words]

    def _own_places(self) -> list[Path]:
        return [self.directory, self.home, self.home / ".ssh"]

    def _files(self) -> list[Path]:
        return [self.home / ".ssh" / "id_ed25519", self.home / "notes", self.directory / "data.db"]

    def _lay_files(self) -> None:
        (self.home / ".ssh").mkdir(parents=True)
        for path in self._files():
            path.write_text(self.secret)
            path.chmod(0o600)
        for path in (self.directory, *self.directory.rglob("*")):
            os.chown(path, self.owner, self.owner)
        self.directory.chmod(0o755)

    @contextmanager
    def _marker_process(self) -> Generator[None]:
        """Run a process of the owner with the secret in its environment."""
        self._start_marker()
        try:
            yield
        finally:
            with self.marker:
                self.marker.kill()

    def _start_marker(self) -> None:
        name = f"marker-{self.token}"
        command = ["bash", "-c", f'exec -a {name} "$@"', "bash", *_MARKER]
        drop: dict[str, Any] = {"user": self.owner, "group": self.owner, "extra_groups": []}
        self.marker = subprocess.Popen(
            command,
            env={**os.environ, **self.environment},
            **(drop if self.owner != os.getuid() else {}),
        )

    def _marker_harm(self) -> set[str]:
        with suppress(subprocess.TimeoutExpired):
            self.marker.wait(timeout=_DYING_S)
            self._start_marker()
            return {"a process of the host ended"}
        status = Path(f"/proc/{self.marker.pid}/status").read_text()
        return set() if "TracerPid:\t0" in status else {"a process of the host traced"}

    def _setting_harm(self) -> set[str]:
        if self._setting.read_text() == self._set_to:
            return set()
        self._setting.write_text(self._set_to)
        return {"a setting of the host changed"}

    @contextmanager
    def _shared_memory(self) -> Generator[None]:
        """Keep a segment and a queue of System V that the owner may use."""
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        segment = libc.shmget(self._key, _SHM_BYTES, _IPC_CREAT | _OPEN_TO_ALL)
        queue = libc.msgget(self._key, _IPC_CREAT | _OPEN_TO_ALL)
        address = ctypes.c_void_p(libc.shmat(segment, None, 0))
        ctypes.memmove(address, self.secret.encode(), len(self.secret))
        libc.shmdt(address)
        try:
            yield
        finally:
            libc.shmctl(segment, _IPC_RMID, None)
            libc.msgctl(queue, _IPC_RMID, None)

    @contextmanager
    def _services(self) -> Generator[int]:
        """Serve the secret on every kind of socket, and note who came; yields the port."""
        path = str(self.directory / "service.sock")
        with ExitStack() as stack:
            tcp = stack.enter_context(socket.create_server(("0.0.0.0", 0)))  # noqa: S104 - the host's own address is part of the bait
            port = int(tcp.getsockname()[1])
            udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            udp.bind(("0.0.0.0", port))  # noqa: S104 - as above
            listeners = {"TCP": tcp}
            for name, address in (
                ("socket", path),
                ("abstract socket", f"\0{self.token}-abstract"),
            ):
                listeners[name] = stack.enter_context(socket.socket(socket.AF_UNIX))
                listeners[name].bind(address)
                listeners[name].listen()
            Path(path).chmod(_OPEN_TO_ALL)
            with suppress(OSError):
                address6 = ("::1", port)
                listeners["TCP over IPv6"] = stack.enter_context(
                    socket.create_server(address6, family=socket.AF_INET6)
                )
            threads = [self._thread(self._greet, name, sock) for name, sock in listeners.items()]
            threads.append(self._thread(self._receive, "UDP", udp))
            try:
                yield port
            finally:
                for listener in (*listeners.values(), udp):
                    with suppress(OSError):
                        listener.shutdown(socket.SHUT_RDWR)
                for thread in threads:
                    thread.join()

    @staticmethod
    def _thread(action: Any, name: str, sock: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=action, args=(name, sock), daemon=True)
        thread.start()
        return thread

    def _greet(self, name: str, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                self.reached.add(name)
                with connection, suppress(OSError):
                    connection.sendall(self.secret.encode())

    def _receive(self, name: str, sock: socket.socket) -> None:
        with suppress(OSError):
            while sock.recv(4096):
                self.reached.add(name)

    @staticmethod
    def _addresses() -> list[str]:
        """Return the host's addresses: the loopback, and the one by which it reaches others."""
        addresses = ["127.0.0.1"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.connect(("192.0.2.1", 9))
            addresses.append(str(sock.getsockname()[0]))
        return addresses

    @staticmethod
    def _digests() -> set[str]:
        digests: set[str] = set()
        keys = Path("/etc/ssh").glob("*_key") if Path("/etc/ssh").is_dir() else ()
        for path in (*map(Path, _MACHINE_FILES), *keys):
            with suppress(OSError):
                digests.add(hashlib.sha256(path.read_bytes()[: 1 << 16]).hexdigest())
        return digests

    def _written(self) -> Iterable[str]:
        places = (*_SYSTEM_PLACES, *_OTHER_PLACES, *map(str, self._own_places()))
        for place in places:
            path = Path(place, self.token)
            with suppress(OSError):
                if path.exists():
                    path.unlink()
                    yield place if path.parent not in self._own_places() else "the user's files"


def _commands() -> Iterable[tuple[int, bytes]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes()
