"""Output that is kept for later, within its bound."""

import pytest

from patchkiln.sandboxes.local.commands.outputs import Kept


def test_what_is_kept_comes_back_in_order() -> None:
    """Small pieces of one stream are joined, never those of two; what was taken is gone."""
    kept = Kept(1000, drops=True)
    kept.add("stdout", b"a")
    kept.add("stdout", b"b")
    kept.add("stderr", b"c")
    kept.add("stdout", b"d")
    pieces = [(chunk.stream, chunk.data) for chunk in kept.take()]
    assert pieces == [("stdout", b"ab"), ("stderr", b"c"), ("stdout", b"d")]
    assert kept.take() == []


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 5000, 70_000])
def test_the_last_bytes_are_kept_exactly(size: int) -> None:
    """However they came, the newest bytes stay, and no more than the bound."""
    kept = Kept(1000, drops=True)
    whole = bytes(number % 251 for number in range(100_000))
    for place in range(0, len(whole), size):
        kept.add("stdout", whole[place : place + size])
        assert not kept.full
    assert b"".join(chunk.data for chunk in kept.take()) == whole[-1000:]


def test_many_tiny_pieces_cost_little() -> None:
    """Two streams that take turns byte by byte keep fewer pieces than bytes."""
    kept = Kept(1 << 26, drops=True)
    for _ in range(100_000):
        kept.add("stdout", b"x")
        kept.add("stderr", b"y")
    assert len(kept.take()) <= 1000 + (1 << 26) // 2048


def test_a_reader_is_waited_for_where_nothing_may_be_dropped() -> None:
    """Past the bound it is full until somebody takes it, and nothing is lost."""
    kept = Kept(10, drops=False)
    kept.add("stdout", b"x" * 10)
    full = [kept.full]
    kept.add("stdout", b"x")
    full.append(kept.full)
    assert sum(len(chunk.data) for chunk in kept.take()) == 11
    assert [*full, kept.full] == [False, True, False]
