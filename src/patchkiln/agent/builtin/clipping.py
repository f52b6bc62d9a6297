"""How text of a model or a sandbox is kept short for events and for the model itself."""

MAX_RESULT_CHARS = 16_000
MAX_LINE_CHARS = 2000


def clip(text: str, max_chars: int = MAX_RESULT_CHARS) -> str:
    """Return the text, or its head and its tail with a word on what is missing between."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n... {left_out} characters left out ...\n{text[-half:]}"


def tail(text: str, max_chars: int) -> str:
    """Return the end of a text."""
    text = text.rstrip()
    return text if len(text) <= max_chars else "..." + text[-max_chars:]


def one_line(text: str, max_chars: int = 120) -> str:
    """Return the text on one line, cut where it is long."""
    # Cut first: splitting a megabyte to show a line of it would be waste.
    line = " ".join(text[: max_chars * 4].split())
    return line if len(line) <= max_chars else line[: max_chars - 3] + "..."
