"""Large work directories."""

from pathlib import Path

from patchkiln.domain.repository import Checkout

FILES_A_DIRECTORY = 100


def make_checkout(directory: Path, count: int) -> Checkout:
    """Make a directory of many small files."""
    for number in range(count):
        place = directory / str(number // FILES_A_DIRECTORY) / f"{number}.txt"
        if not number % FILES_A_DIRECTORY:
            place.parent.mkdir(parents=True)
        place.write_text(f"{number}\n")
    return Checkout(
        repository="large",
        commit="0" * 40,
        branch="main",
        path=directory,
        file_count=count,
        size_bytes=count * 6,
        cached=True,
    )
