"""Where runs are kept: in SQLite, or in memory for tests and for one run from the terminal."""

from patchkiln.stores.memory import MemoryStore
from patchkiln.stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "SqliteStore"]
