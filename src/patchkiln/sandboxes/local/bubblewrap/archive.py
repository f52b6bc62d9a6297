"""The agent of a box that bubblewrap makes, as an archive that Python imports from.

In it rather than in the server's directories, because a box would learn from its mounts where those
lie. Compiled, because a box would do that anew at each start.
"""

import io
import os
import py_compile
import tempfile
import zipfile
from pathlib import Path

_PACKAGES = ("patchkiln", "patchkiln/sandboxes", "patchkiln/sandboxes/local")
_WHOLE_PACKAGES = ("patchkiln/sandboxes/local/box", "patchkiln/sandboxes/network")
_SOURCE = Path(__file__).parents[4]


def open_archive() -> int:
    """Return a descriptor of the archive, which lies in memory."""
    data = _build()
    descriptor = os.memfd_create("agent")
    os.write(descriptor, data)
    return descriptor


def _build() -> bytes:
    names = [f"{package}/__init__.py" for package in _PACKAGES]
    for package in _WHOLE_PACKAGES:
        names += [f"{package}/{path.name}" for path in (_SOURCE / package).glob("*.py")]
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            compiled = py_compile.compile(
                str(_SOURCE / name),
                cfile=f"{scratch}/compiled",
                dfile=name,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                doraise=True,
            )
            archive.write(str(compiled), f"{name}c")
            # For a Python of another version than the server's.
            archive.write(_SOURCE / name, name)
    return buffer.getvalue()
