"""The clean-room diff: what a sandbox changed, told by a git that it could not reach.

Git in the workspace would obey the workspace: filters, hooks, fsmonitor and textconv run commands,
assume-unchanged and info/exclude hide changes. So a fresh box compares the final tree with the
untouched base by a git directory of its own; the script beside this module does it.
"""

import asyncio
import logging
from importlib.resources import files
from typing import NoReturn

from patchkiln.domain.patch import Patch, printable
from patchkiln.errors import PatchError
from patchkiln.ports.execution import CapturedOutput, capture
from patchkiln.ports.sandbox import Sandbox
from patchkiln.sandboxes.local.raw_diff import parse_changes

logger = logging.getLogger(__name__)

MAX_NEW_FILE_BYTES = 10 << 20
MAX_PATCH_BYTES = 50 << 20
TIMEOUT_S = 300.0
# Names and the list of changes, beside the patch.
_MAX_LISTS_BYTES = 64 << 20
_MAX_STDERR_CHARS = 1000
_NAMES_IN_A_NOTE = 5
_NAME_CHARS = 200

# What tools leave behind and nobody commits, where the repository's own ignore rules do not say so.
ARTEFACTS = (
    "__pycache__/",
    "*.pyc",
    "*.pyo",
    ".coverage",
    ".eggs/",
    ".hypothesis/",
    ".mypy_cache/",
    ".nox/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".tox/",
    ".venv/",
    "*.egg-info/",
    "node_modules/",
    ".DS_Store",
)
# Bytes as they are; files by their content alone. These stand above the tree's own .gitattributes.
ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding !diff"

# By the names of the script's lists, in its order.
_NOTES = {
    "refused": "Git directories inside the tree are left out of the patch: ",
    "special": "Pipes, sockets and devices are left out of the patch: ",
    "unreadable": "Files and directories without read permission are left out of the patch: ",
    "new": "New files over {limit} MiB are left out of the patch: ",
    "long": "Paths that are too long for git are left out of the patch: ",
    "submodules": "Changes inside submodules are left out of the patch: ",
}
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


async def clean_room_diff(
    box: Sandbox,
    *,
    max_new_file_bytes: int = MAX_NEW_FILE_BYTES,
    max_patch_bytes: int = MAX_PATCH_BYTES,
) -> Patch:
    """Return what changed between ``/base`` and ``/workspace`` of a fresh box.

    ``/base`` is the untouched checkout with its git directory, read-only; ``/workspace`` shows the
    final tree and is writable without reaching anybody else. The patch takes ``git apply`` to a
    pristine clone of the base's commit. What cannot be part of it is named in the notes. Raises
    `PatchError` where the patch would be larger than ``max_patch_bytes`` or git fails, and
    `SandboxLost` (retryable).
    """
    limits = (str(max_new_file_bytes), str(max_patch_bytes))
    script = files("patchkiln.sandboxes.local").joinpath("diff.sh").read_text(encoding="utf-8")
    environment = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
    room = ("/usr/bin/env", "-i", *environment, "/bin/sh", "-c", script, "diff")
    max_bytes = max_patch_bytes + _MAX_LISTS_BYTES
    execution = await box.exec(
        (*room, *limits, "\n".join(ARTEFACTS), ATTRIBUTES),
        cwd="/",
        timeout_s=TIMEOUT_S,
        max_output_bytes=max_bytes,
    )
    output = await capture(execution, max_bytes=max_bytes)
    if output.status.exit_code or output.dropped_bytes:
        _fail(output)
    # Beside the loop: a box may have changed a hundred thousand files.
    return await asyncio.to_thread(_patch, output.stdout, max_new_file_bytes, max_patch_bytes)


def _fail(output: CapturedOutput) -> NoReturn:
    said = output.stderr.decode("utf-8", "backslashreplace")[-_MAX_STDERR_CHARS:]
    logger.warning("The clean-room diff failed: %s: %s", output.status, said)
    raise PatchError(
        "The change could not be turned into a patch.",
        remedy="Look for files of extraordinary size, number or name in the workspace.",
    )


def _patch(output: bytes, max_new_file_bytes: int, max_patch_bytes: int) -> Patch:
    """Read what the script printed."""
    lists: dict[str, list[bytes]] = {}
    for name in (*_NOTES, "ignored", "changes"):
        lists[name], output = _cut_list(output)
    if len(output) > max_patch_bytes:
        raise PatchError(f"The patch is larger than {max_patch_bytes >> 20} MiB.")
    ignored = set(lists["ignored"])
    notes = tuple(
        text.format(limit=max_new_file_bytes >> 20) + _listed(told)
        for name, text in _NOTES.items()
        if (told := [path for path in lists[name] if path not in ignored])
    )
    return Patch(diff=output, changes=parse_changes(lists["changes"]), notes=notes)


def _cut_list(output: bytes) -> tuple[list[bytes], bytes]:
    """Take one list off the front: no name in it is empty, an empty one ends it."""
    names, _, rest = (b"\0" + output).partition(b"\0\0")
    return names.split(b"\0")[1:], rest


def _listed(names: list[bytes]) -> str:
    shown = [_on_one_line(name) for name in sorted(names)[:_NAMES_IN_A_NOTE]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more." if more else ".")


def _on_one_line(name: bytes) -> str:
    text = printable(name.removeprefix(b"/workspace/").decode("utf-8", "surrogateescape"))
    text = text if len(text) <= _NAME_CHARS else f"{text[:_NAME_CHARS]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
