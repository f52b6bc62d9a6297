"""Landlock: a second fence around files, and the only one around signals to other boxes.

Bits as in linux/landlock.h. What the running kernel does not know is left out.
"""

import os
import struct
from collections.abc import Iterable
from typing import Final

from patchkiln.sandboxes.local.box import syscalls

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
_SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1 << 0
_SCOPE_SIGNAL: Final = 1 << 1
# How many of the file bits each version of the interface knows.
_FILE_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_FILE_BITS: Final = 16
_FIRST_WITH_NETWORK: Final = 4
_FIRST_WITH_SCOPES: Final = 6

# /proc/self and the devices are written as well; their mounts and owners say which.
_ANYWHERE: Final = _READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
_PROGRAMS: Final = _EXECUTE | _READ_FILE | _READ_DIR
_PROGRAM_PLACES: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")


def restrict(writable: Iterable[str], readable: Iterable[str]) -> None:
    """Allow everything beneath some places, running programs beneath others, else only looking."""
    abi = syscalls.landlock_abi()
    if not abi:
        return
    everything = (1 << _FILE_BITS.get(abi, _ALL_FILE_BITS)) - 1
    ruleset = syscalls.landlock_ruleset(_ruleset_attributes(abi, everything))
    try:
        syscalls.landlock_allow(ruleset, "/", _ANYWHERE & everything)
        for place in (*_PROGRAM_PLACES, *readable):
            if os.path.isdir(place) and not os.path.islink(place):
                syscalls.landlock_allow(ruleset, place, _PROGRAMS & everything)
        for place in writable:
            syscalls.landlock_allow(ruleset, place, everything)
        syscalls.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)


def _ruleset_attributes(abi: int, everything: int) -> bytes:
    scopes = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL
    if abi >= _FIRST_WITH_SCOPES:
        return struct.pack("<QQQ", everything, 0, scopes)
    if abi >= _FIRST_WITH_NETWORK:
        return struct.pack("<QQ", everything, 0)
    return struct.pack("<Q", everything)
