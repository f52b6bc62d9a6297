"""Joins the layers of a chain into one, as an overlay of them would look from below.

Runs in a box of its own before that box gives up its capabilities: the layers are shown read-only
and nobody else writes, but names, links and attributes in them are a hostile box's. So nothing is
reached by a path: a directory is opened from the one above it, and no link is followed.

Source of the rules: the kernel's filesystems/overlayfs ("whiteouts and opaque directories"). What
hides a name is a device 0:0, and what hides all below a directory is its attribute; both are kept
where they hide something of the base. (The kernel lists a device 0:0 like any other in a directory
that covers none.) Other attributes of the overlay's own are dropped: only a box puts them there.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from patchkiln.sandboxes.local.box.layout import BASE
from patchkiln.sandboxes.local.zygote.layers import AREAS

SOURCES = "/layers"
TARGET = "/joined"
# On the target's own disk, and not used by any overlay yet.
_LINKS = f"{TARGET}/workspace/work"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "user.overlay.opaque"
_OVERLAY_S_OWN = "user.overlay."
# What a box sets on a file of an overlay with such a name, the kernel stores under this one.
_ESCAPED = "user.overlay.overlay."
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_")


def join_layers(count: int, *, with_base: bool) -> None:
    """Join ``/layers/0``, the latest, to the last into ``/joined``. Raises `OSError`.

    ``with_base``: the workspace's layers stand on what ``/base`` shows.
    """
    links = os.open(_LINKS, _OPEN_DIRECTORY)
    join = _Join(links)
    for area in AREAS:
        places = (f"{SOURCES}/{number}/{area}/upper" for number in range(count))
        sources = [
            _Source(number, os.open(place, _OPEN_DIRECTORY)) for number, place in enumerate(places)
        ]
        target = os.open(f"{TARGET}/{area}/upper", _OPEN_DIRECTORY)
        covers = os.open(BASE, _OPEN_DIRECTORY) if with_base and area == "workspace" else None
        join.run(_Directory(sources, target, covers))
    for name in os.listdir(links):
        os.unlink(name, dir_fd=links)
    os.close(links)


class _Source(NamedTuple):
    """A directory of a layer."""

    layer: int
    descriptor: int


class _Below(NamedTuple):
    """A directory to be joined; ``hides``: something in a layer below is no directory."""

    name: str
    sources: list[_Source]
    hides: bool


class _Directory:
    """A directory under way: where its entries come from and go, what of the base it covers."""

    def __init__(self, sources: Sequence[_Source], target: int, covers: int | None) -> None:
        self.sources = sources
        self.target = target
        self.covers = covers
        self.below: list[_Below] | None = None

    def finish(self) -> None:
        """Give it the latest one's mode, attributes and times, and close everything."""
        latest = self.sources[0].descriptor
        _copy_attributes(latest, self.target)
        _copy_mode_and_times(latest, self.target)
        for descriptor in (self.target, *(source.descriptor for source in self.sources)):
            os.close(descriptor)
        if self.covers is not None:
            os.close(self.covers)

    def hides(self, name: str) -> bool:
        """Tell whether the base has something of a name here."""
        if self.covers is None:
            return False
        try:
            os.stat(name, dir_fd=self.covers, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


class _Join:
    def __init__(self, links: int) -> None:
        self._links = links
        # Names of one file: the first is kept under a number of its own.
        self._numbers: dict[tuple[int, int], str] = {}

    def run(self, root: _Directory) -> None:
        """Join a tree, however deep."""
        way = [root]
        while way:
            directory = way[-1]
            if directory.below is None:
                directory.below = list(self._join_entries(directory))
            elif directory.below:
                way.append(_enter(directory, directory.below.pop()))
            else:
                way.pop().finish()

    def _join_entries(self, directory: _Directory) -> Iterator[_Below]:
        """Take the latest of each name; yield the directories among them."""
        closed: set[str] = set()
        hiding: set[str] = set()
        below: dict[str, list[_Source]] = {}
        for source in directory.sources:
            with os.scandir(source.descriptor) as entries:
                for entry in entries:
                    if entry.name in closed:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below.setdefault(entry.name, []).append(source)
                        continue
                    closed.add(entry.name)
                    if entry.name in below:
                        hiding.add(entry.name)
                    else:
                        self._take(source, entry, directory)
        for name, sources in below.items():
            yield _Below(name, sources, name in hiding)

    def _take(self, source: _Source, entry: os.DirEntry[str], directory: _Directory) -> None:
        status = entry.stat(follow_symlinks=False)
        target = directory.target
        if _is_whiteout(status):
            if directory.hides(entry.name):
                os.mknod(entry.name, status.st_mode, 0, dir_fd=target)
            return
        key = (source.layer, status.st_ino)
        number = self._numbers.get(key)
        if number is not None:
            os.link(number, entry.name, src_dir_fd=self._links, dst_dir_fd=target)
            return
        _copy(source.descriptor, entry.name, status, target)
        if status.st_nlink > 1:
            number = self._numbers[key] = str(len(self._numbers))
            name = entry.name
            os.link(name, number, src_dir_fd=target, dst_dir_fd=self._links, follow_symlinks=False)


def _enter(directory: _Directory, below: _Below) -> _Directory:
    """Open a directory in all layers down to the one that hides the rest."""
    os.mkdir(below.name, 0o700, dir_fd=directory.target)
    target = os.open(below.name, _OPEN_DIRECTORY, dir_fd=directory.target)
    sources: list[_Source] = []
    opaque = below.hides
    for source in below.sources:
        descriptor = os.open(below.name, _OPEN_DIRECTORY, dir_fd=source.descriptor)
        sources.append(_Source(source.layer, descriptor))
        if _is_opaque(descriptor):
            opaque = True
            break
    if opaque:
        os.setxattr(target, _OPAQUE, b"y")
    return _Directory(sources, target, None if opaque else _below(directory.covers, below.name))


def _below(directory: int | None, name: str) -> int | None:
    """Open a directory of the base, where there is one."""
    if directory is None:
        return None
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return None
        raise


def _copy(directory: int, name: str, status: os.stat_result, target: int) -> None:
    """Make an entry that is no directory."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        _copy_file(directory, name, status.st_size, target)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=directory), name, dir_fd=target)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
    elif kind in {stat.S_IFIFO, stat.S_IFSOCK}:
        os.mknod(name, status.st_mode, 0, dir_fd=target)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)


def _copy_file(directory: int, name: str, size: int, target: int) -> None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    source = os.open(name, os.O_RDONLY | flags, dir_fd=directory)
    copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target)
    try:
        os.truncate(copy, size)
        for begin, end in _data(source, size):
            _copy_data(source, copy, begin, end)
        _copy_attributes(source, copy)
        _copy_mode_and_times(source, copy)
    finally:
        os.close(source)
        os.close(copy)


def _data(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has bytes: one of 10 TB may have none."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                return
            raise
        end = os.lseek(file, begin, os.SEEK_HOLE)
        yield begin, end


def _copy_data(source: int, copy: int, begin: int, end: int) -> None:
    os.lseek(copy, begin, os.SEEK_SET)
    while begin < end:
        begin += os.sendfile(copy, source, begin, end - begin)


def _copy_attributes(source: int, copy: int) -> None:
    for name in os.listxattr(source):
        own = name.startswith(_OVERLAY_S_OWN) and not name.startswith(_ESCAPED)
        if name.startswith(_KEPT_ATTRIBUTES) and not own:
            os.setxattr(copy, name, os.getxattr(source, name))


def _copy_mode_and_times(source: int, copy: int) -> None:
    status = os.fstat(source)
    os.chmod(copy, stat.S_IMODE(status.st_mode))
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
