"""File operations inside a box, each in a process of its own, so that none can hang PID 1.

What goes in or comes out as bulk travels through the pipe that came with the request.
"""

import errno
import json
import os
import stat
from collections.abc import Callable
from typing import Any, TypeAlias

_Entry: TypeAlias = list[Any]
_Operation: TypeAlias = Callable[[dict[str, Any], int], None]

_BLOCK_BYTES = 1 << 18
_NEW_FILE_MODE = 0o644
MAX_ENTRIES = 10_000
_READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def run(request: dict[str, Any], pipe: int) -> None:
    """Run the operation that a request names. Raises `OSError`."""
    os.chdir("/")
    _OPERATIONS[request["op"]](request, pipe)
    os.close(pipe)


def _read(request: dict[str, Any], pipe: int) -> None:
    with open(_open_regular(request["path"], _READ_FLAGS), "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > request["max_bytes"]:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        while block := file.read(_BLOCK_BYTES):
            _write_all(pipe, block)


def _write(request: dict[str, Any], pipe: int) -> None:
    """Write in place, so that links and mode stay; take the space first, or lose nothing."""
    path: str = request["path"]
    size: int = request["size"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = not os.path.lexists(path)
    descriptor = _open_regular(path, _WRITE_FLAGS)
    try:
        if size:
            os.posix_fallocate(descriptor, 0, size)
    except OSError:
        if new:
            os.unlink(path)
        raise
    while block := os.read(pipe, _BLOCK_BYTES):
        _write_all(descriptor, block)
    os.ftruncate(descriptor, size)
    if request["mode"] is not None:
        os.fchmod(descriptor, request["mode"])
    # Before the reply: a program that is open for writing cannot be run.
    os.close(descriptor)


def _list(request: dict[str, Any], pipe: int) -> None:
    entries: list[_Entry] = []
    with os.scandir(request["path"]) as directory:
        for entry in directory:
            if len(entries) == MAX_ENTRIES:
                raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
            entries.append(_describe(entry.path, entry.name))
    entries.sort(key=_name)
    _write_all(pipe, "".join(f"{json.dumps(entry)}\n" for entry in entries).encode())


def _name(entry: _Entry) -> str:
    return str(entry[0])


def _stat(request: dict[str, Any], pipe: int) -> None:
    entry = _describe(request["path"], request["path"])
    _write_all(pipe, json.dumps(entry).encode())


def _realpath(request: dict[str, Any], pipe: int) -> None:
    try:
        path = os.path.realpath(request["path"], strict=True)
    except FileNotFoundError:
        path = os.path.realpath(request["path"])
    _write_all(pipe, json.dumps(path).encode())


def _make_directory(request: dict[str, Any], pipe: int) -> None:
    del pipe  # nothing travels
    os.makedirs(request["path"], exist_ok=True)


def _remove(request: dict[str, Any], pipe: int) -> None:
    del pipe  # nothing travels
    path: str = request["path"]
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    parent, name = os.path.split(path.rstrip("/"))
    if name in {"", ".", ".."}:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if os.path.ismount(path):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    os.chdir(parent)
    _remove_tree(name)


def _remove_tree(name: str) -> None:
    """Empty and remove a directory below the working directory.

    By walking in and out, because neither recursion nor path names reach thousands of levels deep.
    Ends where it began, even when someone moves directories meanwhile: all of it is the box's own.
    """
    trail = [name]
    _enter(name)
    while trail:
        below = _unlink_files()
        if below is not None:
            trail.append(below)
            _enter(below)
            continue
        os.chdir("..")
        os.rmdir(trail.pop())


def _enter(name: str) -> None:
    try:
        descriptor = os.open(name, _DIRECTORY_FLAGS)
    except PermissionError:
        os.chmod(name, stat.S_IRWXU)
        descriptor = os.open(name, _DIRECTORY_FLAGS)
    try:
        if os.fstat(descriptor).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(descriptor, stat.S_IRWXU)
        os.fchdir(descriptor)
    finally:
        os.close(descriptor)


def _unlink_files() -> str | None:
    """Delete what is no directory here; return the name of a directory, if there is one."""
    directory_name = None
    with os.scandir(".") as directory:
        for entry in directory:
            if entry.is_dir(follow_symlinks=False):
                directory_name = entry.name
            else:
                os.unlink(entry.name)
    return directory_name


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file; anything else is refused at once, a pipe without a writer too."""
    try:
        descriptor = os.open(path, flags, _NEW_FILE_MODE)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a pipe that nobody reads
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, os.strerror(number))


def _describe(path: str, name: str) -> _Entry:
    status = os.lstat(path)
    kind = _kind(status.st_mode)
    target_kind = _target_kind(path) if kind == "symlink" else None
    return [name, kind, status.st_size, stat.S_IMODE(status.st_mode), target_kind]


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"


def _target_kind(path: str) -> str:
    try:
        return _kind(os.stat(path).st_mode)
    except OSError:
        return "missing"


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


_OPERATIONS: dict[str, _Operation] = {
    "read": _read,
    "write": _write,
    "list": _list,
    "stat": _stat,
    "realpath": _realpath,
    "make_directory": _make_directory,
    "remove": _remove,
}
OPERATIONS = frozenset(_OPERATIONS)
