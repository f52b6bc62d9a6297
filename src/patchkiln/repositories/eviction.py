"""Keeps the cache below a size: what was used longest ago goes first, what is in use stays.

Checkouts go before the objects of whole entries, because they are made again without the network.
An entry's empty directory and its lock stay: someone may be about to use them.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from patchkiln.repositories.cache import CHECKOUTS, STORE, Cache, Entry
from patchkiln.repositories.locks import try_lock

# Deletes names below an entry's directory inside a sandbox: what boxes made, a box removes.
Remove = Callable[[Entry, list[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """What can be dropped by itself: a checkout, or the objects of an entry (no name)."""

    entry: Entry
    name: str | None
    size_bytes: int
    used_at: float


async def shrink(cache: Cache, max_bytes: int, remove: Remove) -> None:
    """Delete what bad ends left behind, then the oldest pieces until the rest fits."""
    for entry in cache.entries():
        if entry.leftovers() or entry.spoiled:
            await _clear(entry, None, remove)
    pieces = sorted(_pieces(cache), key=lambda piece: (piece.name is None, piece.used_at))
    excess = sum(piece.size_bytes for piece in pieces) - max_bytes
    for piece in pieces:
        if excess <= 0:
            return
        if await _clear(piece.entry, piece, remove):
            excess -= piece.size_bytes


def _pieces(cache: Cache) -> Iterator[_Piece]:
    for entry in cache.entries():
        yield _Piece(entry=entry, name=None, size_bytes=entry.store_bytes, used_at=entry.used_at)
        for name, path in entry.records().items():
            record = entry.read(name)
            size_bytes = 0 if record is None else record.disk_bytes
            used_at = path.stat().st_mtime
            yield _Piece(entry=entry, name=name, size_bytes=size_bytes, used_at=used_at)


async def _clear(entry: Entry, piece: _Piece | None, remove: Remove) -> bool:
    """Delete an entry's leftovers and one piece; False where it is busy or in use."""
    lock = try_lock(entry.lock)
    if lock is None:
        return False
    try:
        dropped = piece is None or _release(entry, piece)
        doomed = [f"{CHECKOUTS}/{name}" for name in entry.leftovers()]
        if entry.spoiled or (dropped and piece is not None and piece.name is None):
            doomed += [f"{STORE}/{name}" for name in entry.store_names()]
        if doomed:
            await remove(entry, doomed)
        if not entry.store_names():
            entry.finish()
    finally:
        os.close(lock)
    return dropped


def _release(entry: Entry, piece: _Piece) -> bool:
    # The objects stay as long as a checkout of theirs does: its next commit needs few of its own.
    return entry.forget(piece.name) if piece.name is not None else not entry.records()
