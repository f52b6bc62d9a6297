"""Pages that describe the code are true of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from patchkiln.cli.parser import build_parser

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "src" / "patchkiln"
EVENT_NAME = re.compile(r'(?:event=|"event": |\b[A-Z_]+ = )"([a-z_]+\.[a-z_]+)"')
EVENT_ROW = re.compile(r"^\| `([a-z_]+\.[a-z_]+)` \|", re.MULTILINE)
# These use the same form for other things, or for events that are made up.
OTHER_WORDS = {"cli", "sandboxes", "repositories", "stores", "sample.py"}
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)[^)]*\)")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_made_pages_are_current() -> None:
    """docs/settings.md, docs/cli.md and the recorded run are what scripts/docs would write."""
    done = subprocess.run(
        [sys.executable, "scripts/docs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_every_event_is_documented() -> None:
    """The table of docs/api.md names each event of the source, and no other."""
    told = {
        name
        for module in SOURCE.rglob("*.py")
        if not OTHER_WORDS & set(module.parts)
        for name in EVENT_NAME.findall(module.read_text())
    }
    documented = set(EVENT_ROW.findall((ROOT / "docs" / "api.md").read_text()))
    assert told - documented == set()
    assert documented - told == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that is there."""
    targets = [page.parent / target for target in LINK.findall(page.read_text())]
    assert [str(target) for target in targets if not target.exists()] == []


def test_the_readme_begins_with_the_two_commands() -> None:
    """Its first two shell blocks are what a newcomer types."""
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", readme, re.DOTALL)
    assert [block.strip() for block in blocks[:2]] == ["scripts/try", "scripts/check"]
    assert len(readme.splitlines()) <= 150


def test_every_command_has_its_page() -> None:
    """docs/cli.md has a heading for each command of the help."""
    page = (ROOT / "docs" / "cli.md").read_text()
    listed = re.findall(r"^    (\w+) ", build_parser().format_help(), re.MULTILINE)
    assert listed
    for name in listed:
        assert f"## `patchkiln {name}" in page


def test_every_claim_of_safety_names_its_test() -> None:
    """Each line of docs/security.md that promises something ends with a test that there is."""
    claims = re.findall(
        r"^\* \*\*([a-z]+-[a-z]+)\*\*: (.*)$",
        (ROOT / "docs" / "security.md").read_text(),
        re.MULTILINE,
    )
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(claims) > 20
    for name, claim in claims:
        held_by = re.fullmatch(r".+ `(test_\w+)`", claim)
        assert held_by, name
        assert f"def {held_by[1]}(" in tests, name
