"""Replacing a piece of a text: exact, unique, and true to the file's line ends.

There is no search by likeness: a near match that is not the meant one is worse than a refusal,
which tells the model what to look at. Every way of matching must find the piece exactly once.
"""

MAX_LINES_NAMED = 5


class EditRefused(ValueError):
    """The piece was not found, or not found once; the message tells the model what to do."""


def edit(text: str, old: str, new: str, *, replace_all: bool = False) -> str:
    """Return the text with ``old`` replaced by ``new``.

    Where every line of the file ends in CRLF and the piece knows only LF, CRLF is meant. Raises
    `EditRefused`.
    """
    if not old:
        raise EditRefused("old_text is empty; use write_file to make a file.")
    if old == new:
        raise EditRefused("old_text and new_text are the same; nothing to change.")
    if "\r" not in old + new and 0 < text.count("\n") == text.count("\r\n"):
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    count = text.count(old)
    if count == 0:
        raise EditRefused(_not_found(text, old))
    if count > 1 and not replace_all:
        raise EditRefused(
            f"old_text stands {count} times in the file, first in lines {_places(text, old)}. "
            "Add lines around it until it is unique, or set replace_all."
        )
    return text.replace(old, new)


def _places(text: str, old: str) -> str:
    lines: list[str] = []
    start = text.find(old)
    while start >= 0 and len(lines) < MAX_LINES_NAMED:
        lines.append(str(text.count("\n", 0, start) + 1))
        start = text.find(old, start + len(old))
    return ", ".join(lines)


def _not_found(text: str, old: str) -> str:
    wanted = next((line.strip() for line in old.splitlines() if line.strip()), "")
    near = [
        f"line {number}: {line[:200]!r}"
        for number, line in enumerate(text.splitlines(), 1)
        if wanted and line.strip() == wanted
    ]
    if not near:
        return "old_text is not in the file. Read the file again and copy the lines as they are."
    return (
        "old_text is not in the file as written, though its first line is: "
        + "; ".join(near[:MAX_LINES_NAMED])
        + ". Compare white space and the lines that follow, and copy them as they are."
    )
