"""What the commands of a box find in their environment: nothing of the host's."""

from collections.abc import Mapping

from patchkiln.ports.sandbox import HOME
from patchkiln.sandboxes.local.box.layout import OPT_PYTHON, OPT_TOOLCHAIN, USER

_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")


_NO_TERMINAL = "dumb"
_TERMINAL = "xterm-256color"


def environment(*, own_python: bool) -> dict[str, str]:
    """Return the variables of every command; ``own_python``: the server's interpreter is lent."""
    path = [f"{OPT_PYTHON}/bin"] if own_python else []
    path += [f"{HOME}/.local/bin", *_SYSTEM_PATH, f"{OPT_TOOLCHAIN}/bin"]
    return {
        "HOME": HOME,
        "LANG": "C.UTF-8",
        "LOGNAME": USER,
        "PATH": ":".join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SHELL": "/bin/sh",
        "TERM": _NO_TERMINAL,
        "TMPDIR": "/tmp",  # noqa: S108 - inside the box
        "USER": USER,
    }


def on_terminal(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a command on a terminal that differ from the usual ones."""
    return {"TERM": _TERMINAL} if env.get("TERM", _NO_TERMINAL) == _NO_TERMINAL else {}
