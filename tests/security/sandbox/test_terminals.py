"""What the local sandbox promises about terminals."""

import os
from pathlib import Path

import pytest

from tests.security.machine import Box


@pytest.mark.probe(28)
def test_nothing_is_typed_for_someone_else(box: Box) -> None:
    """On a terminal, and its controlling one, both ways of typing answer `EPERM`."""
    code = (
        "import fcntl\n"
        "for name in ('/dev/stdin', '/dev/tty'):\n"
        "    for number in (0x5412, 0x541C):\n"
        "        try: fcntl.ioctl(open(name, 'rb+', 0), number, b'x')\n"
        "        except OSError as error: print(error.errno)\n"
    )
    assert box.show(f'python3 -c "{code}"').split() == ["1"] * 4


def test_a_terminal_is_the_boxes_own(box: Box) -> None:
    """The box owns the terminal it was given, and of all of the machine's it sees only its own."""
    mine = os.openpty()
    try:
        shown = box.show("test -O $(tty) && id -un && tty && ls /dev/pts && stat -c %a $(tty)")
        outside = len(list(Path("/dev/pts").iterdir()))
    finally:
        for descriptor in mine:
            os.close(descriptor)
    assert shown.split() == ["user", "/dev/pts/0", "0", "ptmx", "620"]
    assert outside >= 2


def test_the_servers_side_stays_outside(box: Box) -> None:
    """No command holds the other end of its terminal, nor the directory that was lent."""
    names = box.show("readlink /proc/self/fd/* | sort -u").split()
    assert [name for name in names if name.startswith("/dev")] == ["/dev/pts/0"]
