"""Runs in a container: lets the owner read everything beneath some directories of the root.

Prints what was locked, with its modes, for `lock.py`.
"""

import json
import os
import stat
import sys


def unlock(place: str) -> list[tuple[str, int]]:
    """Open up everything beneath a directory; return what was locked, parents first."""
    locked: list[tuple[str, int]] = []
    waiting = [place]
    while waiting:
        directory = waiting.pop()
        _open_up(directory, os.lstat(directory).st_mode, stat.S_IRWXU, locked)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    mode = entry.stat(follow_symlinks=False).st_mode
                    _open_up(entry.path, mode, stat.S_IRUSR, locked)
    return locked


def _open_up(path: str, mode: int, needed: int, locked: list[tuple[str, int]]) -> None:
    if mode & needed != needed:
        locked.append((path, stat.S_IMODE(mode)))
        os.chmod(path, stat.S_IMODE(mode) | needed)


def main() -> None:
    """Unlock the directories that the arguments name, without the first slash."""
    json.dump([entry for name in sys.argv[1:] for entry in unlock(f"/{name}")], sys.stdout)


if __name__ == "__main__":
    main()
