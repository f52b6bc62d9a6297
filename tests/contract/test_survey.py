"""What the analysis sees of a repository inside a real sandbox."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from patchkiln.domain.detection import MAX_MARKER_BYTES
from patchkiln.pipeline import survey
from patchkiln.pipeline.survey import MAX_PATHS, analyse
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Sandbox, SandboxProvider
from tests.support.boxes import lent_box, lent_provider

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[SandboxProvider]:
    """Lend a provider to the whole module."""
    async with lent_provider(tmp_path_factory.mktemp("data")) as sandboxes:
        yield sandboxes


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(provider: SandboxProvider) -> AsyncGenerator[Sandbox]:
    """Lend an empty sandbox."""
    async with lent_box(provider) as box:
        yield box


async def sh(sandbox: Sandbox, command: str) -> None:
    """Run a command that must succeed."""
    output = await capture(await sandbox.exec(["/bin/sh", "-c", command]))
    assert output.status.exit_code == 0, output.stderr


async def test_languages_files_and_checks_are_found(sandbox: Sandbox) -> None:
    """Shares are of bytes, git's own files do not count, and the check is the repository's own."""
    await sandbox.write("pkg/a.py", b"x" * 300)
    await sandbox.write("web/a.js", b"x" * 100)
    await sandbox.write("pytest.ini", b"")
    await sh(sandbox, "git init -q . && mkdir sub && git init -q sub")
    project = await analyse(sandbox)
    assert project.languages == (("Python", 0.75), ("JavaScript", 0.25))
    assert project.paths == ("pkg/a.py", "pytest.ini", "web/a.js")
    assert project.file_count == 3
    assert [check.source for check in project.checks] == ["pytest.ini"]


async def test_an_empty_workspace_is_an_empty_project(sandbox: Sandbox) -> None:
    """No file, no language, no check."""
    project = await analyse(sandbox)
    assert (project.file_count, project.languages, project.checks) == (0, (), ())


async def test_names_of_any_bytes_are_seen(sandbox: Sandbox) -> None:
    """Newlines, tabs and bytes that are no UTF-8 in names neither break nor vanish."""
    await sh(sandbox, r"""touch "$(printf 'a\nb\t.py')" "$(printf 'c\377.py')" """)
    assert (await analyse(sandbox)).paths == ("a\nb\t.py", "c\udcff.py")


async def test_links_out_of_the_tree_are_harmless(sandbox: Sandbox) -> None:
    """A link is a file of the repository; what it points to is not walked into."""
    await sh(sandbox, "ln -s / root && ln -s /etc/passwd pytest.ini && ln -s loop loop")
    project = await analyse(sandbox)
    assert project.paths == ("loop", "pytest.ini", "root")
    assert [check.source for check in project.checks] == ["pytest.ini"]


async def test_settings_that_can_not_be_read_are_passed_over(sandbox: Sandbox) -> None:
    """A file too large, a directory or a pipe in the place of settings stops nothing."""
    await sandbox.write("package.json", b" " * (MAX_MARKER_BYTES + 1))
    await sh(sandbox, "mkfifo setup.cfg; mkdir tox.ini; echo 'test:' > Makefile; chmod 0 Makefile")
    assert (await analyse(sandbox)).checks == ()


async def test_50_000_files_are_counted_and_few_of_them_kept(sandbox: Sandbox) -> None:
    """All are counted, and sources are kept before others when names are left out."""
    script = (
        "import os\n"
        "for d in range(100):\n"
        "    os.makedirs(f'd{d:02}')\n"
        "    for f in range(500):\n"
        "        open(f'd{d:02}/{f}' + ('.py' if f < 10 else '.txt'), 'w').close()\n"
    )
    await sandbox.write("/tmp/make.py", script.encode())
    await sh(sandbox, "python3 /tmp/make.py; touch zz.py pytest.ini")
    project = await analyse(sandbox)
    assert project.file_count == 50_002
    assert len(project.paths) == MAX_PATHS
    assert sum(path.endswith(".py") for path in project.paths) == 1001
    assert [check.source for check in project.checks] == ["pytest.ini"]


async def test_a_listing_that_is_cut_short_holds_the_roots_own_files(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound the rest is not seen; what is seen are whole names, settings first."""
    names = {f"a/{number:0100}.py" for number in range(3000)} | {"pytest.ini"}
    script = f"import os\nos.mkdir('a')\nfor n in {sorted(names)}: open(n, 'w').close()\n"
    await sandbox.write("/tmp/make.py", script.encode())
    await sh(sandbox, "python3 /tmp/make.py")
    monkeypatch.setattr(survey, "MAX_LISTING_BYTES", 1000)
    project = await analyse(sandbox)
    assert 1 < project.file_count < len(names)
    assert names >= set(project.paths)
    assert [check.source for check in project.checks] == ["pytest.ini"]
