"""What all tests of SageMaker's rooms share: a process reads botocore's model of a service once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.peers import Peers


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    """AWS's command line and SDKs."""
    with Peers() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _models_read_once() -> Iterator[None]:
    """Every session lists and reads the models anew, for half a second; those of all tests share what was read."""
    try:
        from botocore.loaders import JSONFileLoader, Loader
    except ImportError:  # the tests that need it say so
        yield
        return
    load = JSONFileLoader.load_file

    @functools.cache
    def loaded(path: str) -> Any:
        return load(JSONFileLoader(), path)

    list_services = Loader.list_available_services

    @functools.cache
    def listed(paths: tuple[str, ...], type_name: str) -> Any:
        return list_services(Loader([*paths], include_default_search_paths=False), type_name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda self, file_path: loaded(file_path))
        patch.setattr(
            Loader, "list_available_services", lambda self, type_name: listed(tuple(self.search_paths), type_name)
        )
        yield
