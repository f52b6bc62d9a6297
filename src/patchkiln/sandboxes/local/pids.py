"""Processes of the host by number and time of birth: a number alone comes back."""

_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the name


def start_time(pid: int) -> str:
    """Return when a process began, in clock ticks; empty where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[_START_TIME_FIELD]
