"""Processes of the host by number and time of birth: a number alone comes back."""

_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the name
_ENDED = ("Z", "X")


def start_time(pid: int) -> str:
    """Return when a process began, in clock ticks; empty where there is none, or it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in _ENDED else fields[_START_TIME_FIELD]
