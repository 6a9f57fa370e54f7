"""One emulator, with the package of a small ensemble in its S3, for clients of other projects."""

from collections.abc import Iterator

import pytest

from tests.support.peers import Place, upload_package
from tests.support.picture_models import DIGITS, write_repository
from tritonforge.emulator import Emulator


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The emulator with a package whose models have the names of `repos/digits`."""
    repository = write_repository(tmp_path_factory.mktemp("repositories") / "digits", DIGITS)
    with Emulator(speed=1000) as emulator:
        yield upload_package(emulator, repository, tmp_path_factory.mktemp("packages"))
