"""A tiny model and facts for it."""

import pytest


@pytest.fixture
def model():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from corrigible.testing import tiny_language_model

    return tiny_language_model()


@pytest.fixture
def request_():
    from corrigible.models import EditRequest

    return EditRequest("The capital of {} is", "France", "Rome")


@pytest.fixture
def taught():
    """Return a tiny model of a family that has been taught a few sentences, so that it knows something."""
    from corrigible.testing import tiny_language_model

    return lambda family="llama": tiny_language_model(family, taught=True)
