"""Text as a program wrote it for a terminal, made fit for logs, JSON and comparison."""

import re

# Each class excludes what may follow it, so that no input makes these patterns go back far.
_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b[ -/]*[0-~]?"  # the short ones: character sets, keypad, reset
)


def strip_ansi(text: str) -> str:
    """Remove the escape sequences of ECMA-48."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def plain_text(data: bytes) -> str:
    """Decode output: bytes that are no UTF-8 replaced, no escape sequence, one kind of newline."""
    text = strip_ansi(data.decode("utf-8", "replace"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def readable_text(data: bytes) -> str:
    """Return output that a person and any terminal can take.

    Everything that is not printed goes, characters that turn the direction of writing among it.
    """
    return "".join(c for c in plain_text(data) if c in "\n\t" or c.isprintable())
