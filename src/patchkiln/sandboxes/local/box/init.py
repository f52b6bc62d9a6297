"""PID 1 of a box: starts commands for the server, reaps them, and ends with it.

One process and one thread: a loop over the line to the server and the signal of an ended child.
"""

import errno
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from patchkiln.sandboxes.local.box import files, processes, wire
from patchkiln.sandboxes.local.box.measuring import measure
from patchkiln.sandboxes.local.box.stillness import Stillness
from patchkiln.sandboxes.local.box.watchdog import Watchdog
from patchkiln.sandboxes.network.places import Place, open_place

_MAX_REMEMBERED = 10_000
_PIPE_BYTES = 4096
_COMMANDS_OOM_SCORE = b"500"
_MS = 1000


class _Init:
    def __init__(self, control: socket.socket, oom_score: int) -> None:
        self._control = control
        self._oom_score = oom_score
        self._null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        # Both by pid: the command, or the file operation, that it belongs to.
        self._commands: dict[int, int] = {}
        self._file_operations: dict[int, int] = {}
        # Its session, by command and back; it may outlive the command's first process.
        self._sessions: dict[int, int] = {}
        # The variables of every command, which are sent when they have changed.
        self._usual: dict[str, str] = {}
        self._session_commands: dict[int, int] = {}
        self.stillness = Stillness()
        self._others: dict[str, Callable[[dict[str, Any]], None]] = {
            "kill": self._kill,
            "kill_all": self._kill_all,
            "listen": self._listen,
            "stop": self._stand_still,
            "continue": self._stand_still,
            "measure": self._measure,
            "pid": self._tell_pid,
            "signal": self._signal,
            "terminals": self._lend_terminals,
        }

    def handle(self, request: dict[str, Any], descriptors: list[int]) -> None:
        operation = request["op"]
        try:
            if operation == "exec":
                self._exec(request, descriptors)
            elif operation in files.OPERATIONS:
                self._start_file_operation(request, descriptors)
            else:
                self._others[operation](request)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def reap(self) -> None:
        while self._reap_one(os.WNOHANG):
            pass

    def _exec(self, request: dict[str, Any], descriptors: list[int]) -> None:
        command: int = request["id"]
        stderr = descriptors[-1]
        self._usual = request.get("usual", self._usual)
        try:
            os.chdir(request["cwd"])
        except (OSError, ValueError) as error:
            if request["confirm"]:
                self._fail(command, error)
            else:
                self._refuse(command, stderr, f"{request['cwd']}: {error}")
            return
        try:
            pid = self._spawn(request, descriptors)
        except processes.CannotStart as error:
            self._refuse(command, stderr, str(error), error.exit_code)
            return
        self._remember(command, pid)
        if request["confirm"]:
            self._send(event="started", id=command)

    def _refuse(
        self, command: int, stderr: int, text: str, code: int = processes.NOT_RUNNABLE
    ) -> None:
        """End a command that never ran, and say why where it would have said so itself."""
        _tell(stderr, f"{text}\n")
        self._send(event="ended", id=command, code=code)

    def _spawn(self, request: dict[str, Any], descriptors: list[int]) -> int:
        """Start a program that the kernel kills before this process when memory is short.

        It inherits the score at its birth; to lower one's own again is allowed.
        """
        if request["terminal"]:
            streams = processes.on_terminal(descriptors[0])
        else:
            *stdin, stdout, stderr = descriptors
            streams = processes.on_pipes([*(stdin or [self._null]), stdout, stderr])
        os.pwrite(self._oom_score, _COMMANDS_OOM_SCORE, 0)
        try:
            return processes.start(request["argv"], {**self._usual, **request["env"]}, streams)
        finally:
            os.pwrite(self._oom_score, b"0", 0)

    def _remember(self, command: int, pid: int) -> None:
        """Note a command's session; a number that came back means that the old session is gone."""
        self._sessions.pop(self._session_commands.pop(pid, 0), None)
        if len(self._sessions) == _MAX_REMEMBERED:
            oldest = next(iter(self._sessions))
            del self._session_commands[self._sessions.pop(oldest)]
        self._sessions[command] = pid
        self._session_commands[pid] = command
        self._commands[pid] = command

    def _start_file_operation(self, request: dict[str, Any], descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._fail(request["id"], error)
            return
        if pid:
            self._file_operations[pid] = request["id"]
            return
        try:
            self._run_file_operation(request, descriptors[0])
        finally:
            os._exit(1)

    def _run_file_operation(self, request: dict[str, Any], pipe: int) -> None:
        signal.set_wakeup_fd(-1)
        try:
            files.run(request, pipe)
        except (OSError, ValueError) as error:
            self._fail(request["id"], error)
        else:
            self._send(event="done", id=request["id"])
        os._exit(0)

    def _listen(self, request: dict[str, Any]) -> None:
        try:
            with open_place(Place(*request["place"])) as opened:
                message = {"event": "listening", "id": request["id"]}
                wire.send(self._control, message, [opened.fileno()])
        except OSError as error:
            self._fail(request["id"], error)

    def _kill(self, request: dict[str, Any]) -> None:
        session = self._sessions.get(request["id"])
        if session is not None:
            processes.kill_session(session)

    def _kill_all(self, request: dict[str, Any]) -> None:
        processes.kill_everything()
        while self._reap_one(0):
            pass
        self._send(event="done", id=request["id"])

    def _signal(self, request: dict[str, Any]) -> None:
        pid = self._running(request["id"])
        if pid is None:
            return
        if self.stillness.holds and request["signal"] == signal.SIGCONT:
            self.stillness.let_go_on_later(pid)
        else:
            processes.signal_group(pid, request["signal"])

    def _tell_pid(self, request: dict[str, Any]) -> None:
        pid = self._running(request["command"])
        if pid is None:
            self._fail(request["id"], ProcessLookupError(errno.ESRCH, ""))
        else:
            self._send(event="done", id=request["id"], pid=pid)

    def _running(self, command: int) -> int | None:
        """Return the first process of a command that has not ended."""
        pid = self._sessions.get(command)
        return pid if pid in self._commands else None

    def _lend_terminals(self, request: dict[str, Any]) -> None:
        """Lend the directory in which the server makes terminals."""
        try:
            directory = os.open("/dev/pts", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._fail(request["id"], error)
            return
        try:
            message = {"event": "done", "id": request["id"]}
            wire.send(self._control, message, [directory])
        finally:
            os.close(directory)

    def _measure(self, request: dict[str, Any]) -> None:
        self._send(event="done", id=request["id"], **measure())

    def _stand_still(self, request: dict[str, Any]) -> None:
        try:
            if request["op"] == "stop":
                self.stillness.begin()
            else:
                self.stillness.end()
        except OSError as error:
            self._fail(request["id"], error)
        else:
            self._send(event="done", id=request["id"])

    def _reap_one(self, options: int) -> bool:
        try:
            pid, status, usage = os.wait4(-1, options)
        except ChildProcessError:
            return False
        command = self._commands.pop(pid, None)
        if command is not None:
            end = {"code": processes.exit_code(status), "max_rss_bytes": usage.ru_maxrss << 10}
            if os.WIFSIGNALED(status):
                end["signal"] = os.WTERMSIG(status)
            self._send(event="ended", id=command, **end)
        operation = self._file_operations.pop(pid, None)
        if operation is not None and status:
            self._fail(operation, OSError(errno.EIO, ""))
        return pid != 0

    def _fail(self, request_id: int, error: OSError | ValueError) -> None:
        number = error.errno if isinstance(error, OSError) else None
        self._send(event="failed", id=request_id, errno=number or errno.EINVAL)

    def _send(self, **message: Any) -> None:
        wire.send(self._control, message)


class _Loop:
    def __init__(self, control: socket.socket, init: _Init, watchdog: Watchdog | None) -> None:
        self._control = control
        self._init = init
        self._watchdog = watchdog
        self._signals, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._signals, select.POLLIN)

    def run(self) -> NoReturn:
        while True:
            pause_s = self._look()
            for descriptor, _ in self._poll.poll(None if pause_s is None else pause_s * _MS):
                if descriptor == self._signals:
                    os.read(self._signals, _PIPE_BYTES)
                    self._init.reap()
                else:
                    self._take_request()

    def _look(self) -> float | None:
        """Let the watchdog look; what stands still grows no more."""
        if self._watchdog is None or self._init.stillness.holds:
            return None
        return self._watchdog.look()

    def _take_request(self) -> None:
        request, descriptors = wire.receive(self._control)
        if request is None:
            os._exit(0)
        self._init.handle(request, descriptors)


def serve(control: socket.socket, oom_score: int, memory_bytes: int | None) -> NoReturn:
    """Serve the server's requests until it is gone; then the box ends with this process.

    ``oom_score`` is a descriptor of this process's own score; ``memory_bytes`` the limit that this
    process must watch over, None where the kernel does.
    """
    watchdog = None if memory_bytes is None else Watchdog(memory_bytes)
    _Loop(control, _Init(control, oom_score), watchdog).run()


def _note(_number: int, _frame: object) -> None:
    """Let the signal wake the loop; the default action would not."""


def _tell(descriptor: int, text: str) -> None:
    """Write to a stream that nobody has written to yet, and no more than fits in at once."""
    os.set_blocking(descriptor, False)
    try:
        os.write(descriptor, text.encode(errors="backslashreplace")[:_PIPE_BYTES])
    except OSError:
        return
