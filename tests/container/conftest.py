"""A Podman for these tests; where none can be started, they say so by name."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support import podman


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Lend the socket of a running engine."""
    if not podman.installed():
        pytest.skip("No Podman is installed here, or not for root: apt-get install podman runc")
    with podman.service(tmp_path_factory.mktemp("podman")) as place:
        yield place
