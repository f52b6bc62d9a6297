"""The layers of boxes: a memory disk each, which holds what the box changed.

The zygote mounts them in its own namespace. A layer that a snapshot or another box stands on
outlives its box; it goes with the last that holds it.
"""

import errno
import os
from collections import Counter
from collections.abc import Sequence

from patchkiln.sandboxes.local.box import syscalls

LAYERS = "layers"
# What a box may write, and the modes that it begins with.
AREAS = {"workspace": 0o755, "home": 0o700, "tmp": 0o1777}
_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV
_UMASKED = 0o755  # what the zygote's umask leaves of a mode
_BYTES_PER_INODE = 4096
_MIN_INODES = 16384


def inodes(disk_bytes: int) -> int:
    """Return how many files a disk of a size may hold."""
    return max(disk_bytes // _BYTES_PER_INODE, _MIN_INODES)


class Layers:
    """Knows who holds which layer. A holder is a box or a snapshot, by its name."""

    def __init__(self, owner: tuple[int, int] | None) -> None:
        """Take the user and group of the boxes, None where they are the zygote's own."""
        self._owner = owner
        self._held: dict[str, Sequence[str]] = {}
        self._holders: Counter[str] = Counter()

    def make(self, box: str, chain: Sequence[str], disk_bytes: int, *, joins: bool) -> None:
        """Mount the layer of a box, which holds it and the chain below. Raises `OSError`.

        ``joins``: it is to take all that is in the chain.
        """
        # A layer below that is gone fails here, and not as an overlay that shows less.
        modes = {area: _mode(area, chain) for area in AREAS}
        place = f"{LAYERS}/{box}"
        os.mkdir(place)
        files = inodes(disk_bytes)
        if joins:
            # Each file for a moment by two names, which count as well; an empty one takes no bytes.
            files += 2 * sum(map(_used_inodes, chain))
        options = f"mode=755,size={disk_bytes},nr_inodes={files}"
        try:
            syscalls.mount("layer", place, "tmpfs", _FLAGS, options)
        except OSError:
            os.rmdir(place)
            raise
        self._add(box, [box, *chain])
        for area, mode in modes.items():
            os.mkdir(f"{place}/{area}")
            self._make_area(f"{place}/{area}/upper", mode)
            self._make_area(f"{place}/{area}/work", 0o700)

    def detach(self, box: str) -> list[int]:
        """Return descriptors of detached mounts of what a box holds, its own layer first."""
        return [syscalls.clone_mount(f"{LAYERS}/{layer}") for layer in self._held[box]]

    def hold(self, holder: str, layers: Sequence[str]) -> None:
        """Keep layers until the holder lets go of them. Raises `OSError` for one that is gone."""
        for layer in layers:
            if not self._holders[layer]:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._add(holder, layers)

    def used_bytes(self, holder: str) -> int:
        """Return the size of what a holder holds."""
        return sum(map(_used_bytes, self._held.get(holder, ())))

    def release(self, holder: str, *, in_use: bool) -> None:
        """Let a holder go, and with it the layers that nobody else holds. Idempotent.

        To free many files takes long. ``in_use``: a box that lives still uses the layers, so that
        its end frees them; otherwise the end of a process that is made for it does.
        """
        layers = self._held.pop(holder, ())
        self._holders.subtract(layers)
        unused = [layer for layer in layers if not self._holders[layer]]
        for layer in unused:
            del self._holders[layer]
        if unused and in_use:
            _unmount(unused)
        elif unused:
            _bury(unused)

    def _add(self, holder: str, layers: Sequence[str]) -> None:
        self._held[holder] = layers
        self._holders.update(layers)

    def _make_area(self, place: str, mode: int) -> None:
        os.mkdir(place, mode)
        if mode != mode & _UMASKED:
            os.chmod(place, mode)
        if self._owner is not None:
            os.chown(place, *self._owner)


def _mode(area: str, chain: Sequence[str]) -> int:
    if not chain:
        return AREAS[area]
    return os.stat(f"{LAYERS}/{chain[0]}/{area}/upper").st_mode & 0o7777


def _used_bytes(layer: str) -> int:
    status = os.statvfs(f"{LAYERS}/{layer}")
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _used_inodes(layer: str) -> int:
    status = os.statvfs(f"{LAYERS}/{layer}")
    return status.f_files - status.f_ffree


def _unmount(layers: Sequence[str]) -> None:
    for layer in layers:
        syscalls.unmount(f"{LAYERS}/{layer}")
        os.rmdir(f"{LAYERS}/{layer}")


def _bury(layers: Sequence[str]) -> None:
    """Unmount layers while a process that ends at once holds them: it waits for the freeing."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    held = [os.open(f"{LAYERS}/{layer}", flags) for layer in layers]
    gate, opener = os.pipe2(os.O_CLOEXEC)
    if not syscalls.clone_process(0):
        os.close(opener)
        os.read(gate, 1)
        os._exit(0)
    for descriptor in held:
        os.close(descriptor)
    _unmount(layers)
    os.close(gate)
    os.close(opener)
