"""Shared fixtures."""

import os

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """What is computed once and kept goes to a folder of the tests, not to the user's."""
    before = os.environ.get("CORRIGIBLE_CACHE")
    os.environ["CORRIGIBLE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["CORRIGIBLE_CACHE"]
    else:
        os.environ["CORRIGIBLE_CACHE"] = before


@pytest.fixture
def rng():
    return np.random.default_rng(0)
