"""The clone cache on disk, and who uses what of it.

    <cache>/<key>/objects.git        every object that was fetched; seen by fetch boxes
    <cache>/<key>/checkouts/<name>/  immutable working trees; seen as bases
    <cache>/<key>/checkouts/.new-*/  one that is being made; seen by the fetch box that makes it
    <cache>/.state/<key>/lock        held while an entry is changed; its time is the last use
    <cache>/.state/<key>/receiving   there while objects come in, and after that went wrong
    <cache>/.state/<key>/<name>.json what is known of a checkout; its time is the last use
    <cache>/.state/<key>/<name>.lease  locked, shared, by everyone who uses the checkout

What lies in the store and in checkouts was written by boxes: the host looks at names and sizes
there, and opens nothing. ``.state`` is the host's alone. A checkout without its record does not
count: it is being made, or was left behind.
"""

import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchkiln.repositories.locks import try_lock

# What a small file and its directory entry take on common file systems.
BYTES_PER_FILE = 4096
_STATE = ".state"
STORE = "objects.git"
CHECKOUTS = "checkouts"
_NEW = ".new-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a finished checkout.

    ``extra_bytes``: what its directories, its index and its own objects take beside the files.
    """

    commit: str
    branch: str
    file_count: int
    size_bytes: int
    notes: tuple[str, ...]
    extra_bytes: int = 0

    @property
    def disk_bytes(self) -> int:
        """Return roughly what the working tree takes on disk."""
        return self.size_bytes + self.file_count * BYTES_PER_FILE + self.extra_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One repository's part of the cache."""

    directory: Path
    state: Path

    @property
    def lock(self) -> Path:
        """Return the file that is locked while the entry is changed."""
        return self.state / "lock"

    @property
    def used_at(self) -> float:
        """Return when the entry was last asked for, in seconds since the epoch."""
        return self.lock.stat().st_mtime if self.lock.exists() else 0.0

    @property
    def store_bytes(self) -> int:
        """Return the size of the fetched objects."""
        packs = _names(self.store / "objects" / "pack")
        return sum(size for _, size in packs)

    @property
    def store(self) -> Path:
        """Return where the fetched objects lie."""
        return self.directory / STORE

    @property
    def spoiled(self) -> bool:
        """Tell whether the last fetch into the store ended badly, and may have left something."""
        return self._receiving.exists()

    @property
    def _receiving(self) -> Path:
        return self.state / "receiving"

    def begin(self) -> None:
        """Remember that objects come in."""
        self._receiving.touch()

    def finish(self) -> None:
        """Remember that the store holds only what it should."""
        self._receiving.unlink(missing_ok=True)

    def store_names(self) -> list[str]:
        """Return what the store consists of."""
        return [name for name, _ in _names(self.store)]

    def checkout(self, name: str) -> Path:
        """Return where a checkout lies."""
        return self.directory / CHECKOUTS / name

    def new_checkout(self) -> Path:
        """Make a directory for a checkout, and the store's where it is missing."""
        new = self.checkout(_NEW + secrets.token_hex(8))
        self.store.mkdir(exist_ok=True, mode=0o700)
        new.mkdir(parents=True, mode=0o755)
        return new

    def place(self, new: Path, name: str) -> None:
        """Put a finished checkout where it belongs; what is there without a record makes way."""
        target = self.checkout(name)
        if os.path.lexists(target):
            target.rename(self.checkout(_NEW + secrets.token_hex(8)))
        new.rename(target)

    def touch(self) -> None:
        """Remember that the entry was asked for now."""
        self.lock.touch()

    def records(self) -> dict[str, Path]:
        """Return the records by the names of their checkouts."""
        return {path.stem: path for path in self.state.glob("*.json")}

    def leftovers(self) -> list[str]:
        """Return what lies among the checkouts without a record."""
        known = self.records()
        return [name for name, _ in _names(self.directory / CHECKOUTS) if name not in known]

    def read(self, name: str) -> Record | None:
        """Return the record of a checkout that is there."""
        path = self.state / f"{name}.json"
        place = self.checkout(name)
        if not (path.exists() and _is_directory(place.parent) and _is_directory(place)):
            return None
        fields: dict[str, Any] = json.loads(path.read_bytes())
        notes = tuple(fields.pop("notes"))
        return Record(**fields, notes=notes)

    def write(self, name: str, record: Record) -> None:
        """Keep a record; from now on the checkout counts."""
        new = self.state / f"{name}.new"
        fields = {field: getattr(record, field) for field in Record.__slots__}
        new.write_text(json.dumps(fields), encoding="utf-8")
        new.replace(self.state / f"{name}.json")

    def lend(self, name: str) -> tuple[Record, int] | None:
        """Return a checkout's record and the descriptor that keeps it in use, if it is there."""
        if self.read(name) is None:
            return None
        lease = try_lock(self.state / f"{name}.lease", shared=True)
        record = self.read(name) if lease is not None else None
        if lease is None or record is None:
            if lease is not None:
                os.close(lease)
            return None
        (self.state / f"{name}.json").touch()
        return record, lease

    def forget(self, name: str) -> bool:
        """Drop a checkout's record unless someone uses it; its files are leftovers then."""
        path = self.state / f"{name}.lease"
        lease = try_lock(path)
        if lease is None:
            return False
        (self.state / f"{name}.json").unlink(missing_ok=True)
        path.unlink()
        os.close(lease)
        return True


class Cache:
    """All entries below one directory."""

    def __init__(self, root: Path) -> None:
        """Take the directory; it is made when the first entry is."""
        self._root = root

    def entry(self, key: str) -> Entry:
        """Return an entry, made when missing."""
        entry = Entry(directory=self._root / key, state=self._root / _STATE / key)
        # Nobody else on the machine may change what runs start from.
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for directory in (entry.directory, entry.state):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return entry

    def entries(self) -> list[Entry]:
        """Return every entry, least recently used first."""
        names = [name for name, _ in _names(self._root / _STATE)]
        return sorted((self.entry(name) for name in names), key=lambda entry: entry.used_at)


def _names(directory: Path) -> Iterator[tuple[str, int]]:
    """Yield the names in a directory and their sizes; links are not followed."""
    if not _is_directory(directory):
        return
    with os.scandir(directory) as found:
        for entry in found:
            yield entry.name, entry.stat(follow_symlinks=False).st_size


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
