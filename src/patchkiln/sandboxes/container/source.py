"""The program of PID 1 as the container is shown it: a copy of what it imports."""

import hashlib
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from py_compile import PycInvalidationMode
from py_compile import compile as compile_module

# In a container, these are the whole of the product.
_AGENT = "patchkiln.sandboxes.container"
_SERVING = "patchkiln.sandboxes.local.box"
_NETWORK = "patchkiln.sandboxes.network"
_PACKAGES = (
    "patchkiln",
    "patchkiln.sandboxes",
    "patchkiln.sandboxes.local",
    _AGENT,
    _SERVING,
    _NETWORK,
)
_KEY_CHARS = 16
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644


def copy_source(parent: Path) -> Path:
    """Return a directory of the modules below a parent; it is made once a version.

    Raises `OSError`.
    """
    modules = _modules()
    digest = hashlib.sha256(repr(sorted(modules.items())).encode()).hexdigest()
    directory = parent / digest[:_KEY_CHARS]
    if not directory.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix="new-") as scratch:
            fresh = Path(scratch, "tree")
            _write(modules, fresh)
            _move(fresh, directory)
    return directory


def _modules() -> dict[str, bytes]:
    """Return the modules' texts, by their places; packages keep nothing but their names."""
    texts = {f"{_place(package)}/__init__.py": b"" for package in _PACKAGES}
    texts[f"{_place(_AGENT)}/agent.py"] = files(_AGENT).joinpath("agent.py").read_bytes()
    for package in (_SERVING, _NETWORK):
        for module in files(package).iterdir():
            if module.name.endswith(".py") and module.name != "__init__.py":
                texts[f"{_place(package)}/{module.name}"] = module.read_bytes()
    return texts


def _place(package: str) -> str:
    return package.replace(".", "/")


def _write(modules: dict[str, bytes], tree: Path) -> None:
    for name, text in modules.items():
        place = tree / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text)
        # Of use where the container's Python is of the server's version, else passed over.
        compile_module(str(place), dfile=name, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    for entry in (tree, *tree.rglob("*")):
        entry.chmod(_DIRECTORY_MODE if entry.is_dir() else _FILE_MODE)


def _move(fresh: Path, directory: Path) -> None:
    try:
        shutil.move(fresh, directory)
    except OSError:
        if not directory.is_dir():  # another server of the same data directory was not faster
            raise
