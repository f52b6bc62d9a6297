"""Joining layers, where no overlay of this kernel's would make such ones."""

import os
from pathlib import Path

import pytest

from patchkiln.sandboxes.local.zygote import flatten
from patchkiln.sandboxes.local.zygote.layers import AREAS


def test_a_directory_hides_what_a_file_below_it_hid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel may leave the later directory unmarked: the base's is hidden all the same."""
    for area in AREAS:
        for layer in ("layers/0", "layers/1", "joined"):
            (tmp_path / layer / area / "upper").mkdir(parents=True)
    (tmp_path / "joined/workspace/work").mkdir()
    later, earlier = (tmp_path / f"layers/{number}/workspace/upper" for number in range(2))
    (later / "d").mkdir()
    (later / "d" / "new").touch()
    (earlier / "d").touch()
    (tmp_path / "base" / "d").mkdir(parents=True)
    monkeypatch.setattr(flatten, "SOURCES", str(tmp_path / "layers"))
    monkeypatch.setattr(flatten, "TARGET", str(tmp_path / "joined"))
    monkeypatch.setattr(flatten, "_LINKS", str(tmp_path / "joined/workspace/work"))
    monkeypatch.setattr(flatten, "BASE", str(tmp_path / "base"))
    flatten.join_layers(2, with_base=True)
    joined = tmp_path / "joined/workspace/upper/d"
    assert [path.name for path in joined.iterdir()] == ["new"]
    assert os.getxattr(joined, "user.overlay.opaque") == b"y"
