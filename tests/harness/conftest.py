"""What the data library makes of items stays out of the user's cache."""

import importlib.util

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A cache for the session."""
    if importlib.util.find_spec("datasets"):
        import datasets

        datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    yield
